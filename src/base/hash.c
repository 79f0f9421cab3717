/* hash.c: 64-bit hash of bytes, for tables in memory; not for files, nor against an enemy. */
#include "base.h"

uint64_t mx_hash_bytes(uint64_t seed, const void *p, size_t n) {
  const unsigned char *s = p;
  uint64_t h = mx_hash_mix(seed, n), word;
  for (; n >= sizeof word; n -= sizeof word, s += sizeof word) {
    memcpy(&word, s, sizeof word);
    h = mx_hash_mix(h, word);
  }
  word = 0;
  if (n) memcpy(&word, s, n);
  h = mx_hash_mix(h, word);
  return h ^ (h >> 32);
}
