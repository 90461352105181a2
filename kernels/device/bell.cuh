// The bell: a copy of the newest envelope beside the host's words, so that one read of host memory brings both the news and
// what is new. See kernels/src/bell.rs.
//
// A read of a line over PCIe is no snapshot: parts may be of different ages. So nothing of it is believed but what adds up: the
// sum of all its words, each mixed with its place, and a salt must be the check that came with it. Parts of two envelopes, or of two
// positions, add up by a chance of 1 in 2^64: no word's part is linear in the word. What does not add up is fetched from the ring.
#pragma once
#include "base.cuh"

static constexpr u64 BELL_SALT = 0x52494e47464c4545ull; // so that zeroed memory does not add up

// Word `index` of position, worker and slot (0), and of the envelope (1 to 8).
RF_FN u64 bell_part(u64 word, u32 index) {
    u64 mixed = (word + index + 1) * 0x9e3779b97f4a7c15ull;
    mixed = (mixed ^ mixed >> 32) * (0xd6e8feb86659fd93ull * (2 * index + 1));
    return mixed ^ mixed >> 29;
}
