/* fault.h: an allocator that fails on purpose and watches over every block.
 *
 *     [header][guard][ block, new bytes are junk ][guard]
 *
 * A test makes an engine over it, and asks afterwards what went wrong:
 *
 *     fault f;
 *     mlax_options options = fault_start(&f);
 *     fault_fail(&f, 3, false);                     the third allocation from now fails
 *     ...
 *     assert_null(fault_problem(&f));               no guard was overwritten, no size was wrong
 *     assert_null(fault_end(&f));                   nor is a block left
 *
 * or has fault_sweep do that for the failure of each allocation in turn.
 */
#ifndef FAULT_H
#define FAULT_H

#include "../../src/mlax.h"

#include <pthread.h>
#include <stdbool.h>

typedef struct fault {
  pthread_mutex_t lock;
  struct fault_block *blocks; /* all that live */
  long count;                 /* allocations since fault_fail */
  long at;                    /* the number of the one that fails; 0: none */
  bool onwards;               /* all after it fail too */
  long failed;                /* how many have failed */
  size_t bytes, peak;         /* in use, and most ever */
  const char *problem;        /* the first, or NULL */
} fault;

/* Options with the allocator set, all else at its default. */
mlax_options fault_start(fault *f);
void fault_fail(fault *f, long at, bool onwards);
/* The allocator itself: ud is the fault. */
void *fault_alloc(void *ud, void *p, size_t old_size, size_t size, size_t align);
/* NULL, or what is wrong: a guard overwritten, a block freed twice or with another size. */
const char *fault_problem(fault *f);
/* The same, and that blocks are left; frees them. */
const char *fault_end(fault *f);

/* Runs body with an engine again and again: the n-th allocation fails, for every n until none is left to fail; then all
 * from the n-th on. The body answers whether it succeeded, and releases what it got. A failure may be survived (a cache
 * was trimmed), so success is no fault. Returns NULL or what went wrong: a problem, a leak, or a body that fails by
 * itself. */
const char *fault_sweep(bool (*body)(mlax_engine *e, void *arg), void *arg);

#endif
