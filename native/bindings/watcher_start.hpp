// Starting the tree's watcher, which lies beside the module.
#pragma once

namespace shoal::bindings {

// Once, when the module is loaded: where the watcher is, whatever becomes of the working directory. False, with an exception set, if that cannot be told.
bool find_watcher();
const char* watcher_path();
// Once, when there is an arena, and before this process has a slot. Who ends because its parent has died sees to a watcher first, from then on.
void prepare_watcher();
// Starts the tree's watcher unless one lives; 0 or an errno. Touches no Python object, and may run in a fork handler or in a signal handler.
int start_watcher();
// From now on each fork of this process, whoever makes it, sees to it that there is a watcher: the child may hold what others wait for.
void watch_over_forks();

}  // namespace shoal::bindings
