// Floor 7: freeing control objects. See object/object.hpp for the life of one.
#pragma once

#include "blob/blob.hpp"
#include "object/object.hpp"

namespace shoal::recovery {

// Destroys an object that is DESTROYING by this process (or by a dead one), whatever its kind. Idempotent. What cannot be reached, for want of address
// space, stays its owner's to destroy: whoever recovers that one will.
void destroy_and_free(uint32_t index);

// This process lets go of an object. Frees it at once if nobody else can know it; now and then looks at the retired ones.
void let_go(uint32_t index);

// The same for a blob that was received: frees it, or leaves it to forked children that may still look at it.
void let_go(blob::Name name, uint32_t owner);

// Frees the retired objects and blobs that nobody can reach. Under the recovery mutex, so that no fork window closes meanwhile.
void sweep_retired();
// The same, for one who needs their memory. False: it could not be done.
bool sweep_now();

}  // namespace shoal::recovery
