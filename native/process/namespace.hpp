// Floor 2: a tree that ends with its namespace. When the first process of a pid namespace ends, the kernel ends all others in it, the watcher among them: nobody is left
// to do what the watcher does at the end of a tree. So it was an application in a container (`docker run image python app.py`) that left its named memory behind.
#pragma once

namespace shoal::process {

// Whether the whole tree ends when this process does: it is the first of its namespace, it has made the arena, and nobody who lives is outside.
bool tree_ends_with_this();

}  // namespace shoal::process
