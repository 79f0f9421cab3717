/* profile_impl.h: a recording, as profile.c makes and profile_trace.c writes it.
 *
 *     rows      one a kind of step: name, Lua line, parameters and the avals of operands and results
 *     events    in time order; a step that runs others (scan, a call of a program) is followed by what ran inside,
 *               one event a row with the time of all its calls:
 *
 *               dot | scan ............................. | add           time -->
 *                   | dot (n = 100) | tanh (n = 100) |
 */
#ifndef MX_PROFILE_IMPL_H
#define MX_PROFILE_IMPL_H

#include "device.h"

typedef struct mx_profile_row {
  const char *name; /* interned, or the primitive's */
  uint32_t site;
  int n_in, n_out;
  mx_aval *avals;      /* operands, then results */
  uint64_t hash;       /* of all these and the parameters */
  double flops, bytes; /* of one call */
  int64_t calls, own;  /* own: nanoseconds, without the steps inside */
  bool control;        /* steps have run inside */
  int event;           /* its last one, or -1 */
} mx_profile_row;

typedef struct mx_profile_event {
  int row;
  bool inside;
  int64_t calls, start, ns; /* start: since the recording began; of those inside: 0 */
} mx_profile_event;

enum { MX_PROFILE_EVENTS = 1 << 18 }; /* later ones are only counted in their rows */

struct mx_profile {
  mlax_engine *engine;
  int64_t begun, ended; /* nanoseconds of the clock; ended 0: it runs */
  int n_rows, rows_cap;
  mx_profile_row *rows;
  int32_t *slots; /* rows by hash, open addressing: row + 1, 0 empty; n_slot is 0 or a power of two */
  int n_slot;
  int n_events, events_cap;
  mx_profile_event *events;
  int64_t steps;  /* that ran */
  int64_t left;   /* events for which there was no room */
  int depth;      /* steps that run now */
  int outermost;  /* the event of the outermost one; events behind it ran inside */
  int64_t nested; /* nanoseconds of the steps that ended inside the one that runs now */
};

#endif
