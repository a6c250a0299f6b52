#include "scenario.hpp"
namespace shoal::exhaust {
std::vector<Entry> task_operations() { return {}; }
std::vector<Entry> blob_operations() { return {}; }
std::vector<Entry> lifetime_operations() { return {}; }
std::vector<Entry> recovery_operations() { return {}; }
}
