// Floor 2: the end of a parent, as its child learns of it from the kernel. It is the watcher who ends those that are to die with their parent, but both of its processes may have been
// killed. So each of those also asks for a signal. The kernel sends one when the *thread* that has made the child ends, hands the child to another thread of the
// process if there is one, and sends one again when that ends. The signal therefore only says: look whether your parent lives.
//
// It is SIGURG: what ignores a signal by default does not end a program that the child has become by exec, which has the request still, and no handler. A program that
// has a use for SIGURG keeps its handler, and then depends on the watcher alone.
#pragma once

namespace shoal::process {

// For the rest of its life, this process ends when the parent that its slot names has died. Does not return if it has already. The children of a fork server, whose parent in the
// kernel's sense is the server, are sent the signal by it.
void end_with_parent();
// Ends this process, whose parent is dead.
[[noreturn]] void end_after_parent();
// Called before that, also in a signal handler, with everything blocked: to see to a watcher, who helps the others. Set once, before the process has a slot.
void before_end(void (*hook)());

}  // namespace shoal::process
