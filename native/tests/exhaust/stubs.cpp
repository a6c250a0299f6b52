#include "scenario.hpp"
namespace shoal::exhaust {
std::vector<Entry> wait_operations() { return {}; }
std::vector<Entry> put_operations() { return {}; }
std::vector<Entry> get_operations() { return {}; }
std::vector<Entry> task_operations() { return {}; }
std::vector<Entry> blob_operations() { return {}; }
std::vector<Entry> lifetime_operations() { return {}; }
std::vector<Entry> recovery_operations() { return {}; }
}
