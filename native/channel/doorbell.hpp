// Floor 6: the bell of a channel with one process at each end, rung after the commit.
//
// A pipe's bell is rung inside the section, before the commit (channel.cpp): its ends may lie in many processes, and nobody would tell the reader of a message
// whose producer was killed between the commit and the bell. That has a price where both sides run on one core: the reader wakes in the middle of the section, finds nothing, and sleeps again, for the section's mutex;
// five switches of the core for a question and its answer, where two would do.
//
// Where each end lies in one process (a manager's client and its server), the death of the producer is the reader's to see: its socket hangs up, and who
// is woken by that looks at the channel before it believes it. So here the bell comes last, when the section has been left:
//
//   reader:  listen(); look at the channel; sleep on bell and socket          producer:  put; call()
//
// `listening` is the only word; either the producer sees it, or the reader's look sees the message. A bell for nothing costs the reader one look.
#pragma once

#include "channel/channel.hpp"

namespace shoal::channel {

// Before sleeping. False: there is a message already, and the bell need not ring.
bool listen(Channel& c);
// After the put has committed, and left its section.
void call(Channel& c, int bell);

}  // namespace shoal::channel
