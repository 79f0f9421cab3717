/* optimize_impl.h: what the passes share. A program is read equation by equation and written anew:
 *
 *     c = mul b 1      --> simplify: c is b          A pass looks at an operation before it is written. It answers with
 *     d = exp b        --> nobody: written           variables that hold its results already, or that it makes by
 *     e = exp b        --> cse: e is d               writing other operations, at which all passes look again; or not
 *                                                    at all, and the next pass is asked.
 *
 * So each pass sees what the others made, in one walk. Variables are those of the program that is written. */
#ifndef MX_OPTIMIZE_IMPL_H
#define MX_OPTIMIZE_IMPL_H

#include "compile.h"

typedef struct mx_rewrite {
  mx_ctx *c;
  unsigned on; /* passes, by bits */
  mx_program *to;
  mx_arena memory;  /* scratch of the walk */
  int32_t *origin;  /* by variable: its equation; -1: an input; -2 - k: constant k */
  int32_t *readers; /* by variable: how many operands in what was read stand for it */
  int32_t *value;   /* by variable: itself, or the constant that it was found to be */
  int origin_cap, readers_cap, value_cap;
  uint64_t *hashes; /* by equation, for cse */
  int hashes_cap;
  int32_t *table; /* equations by hash, + 1; open addressing */
  int table_cap, table_n;
  size_t folded; /* bytes of the constants that were made */
} mx_rewrite;

/* An operation that is about to be written: operands are variables; op has no in and no in_aval. */
typedef struct mx_node {
  mx_op op;
  const int32_t *in;
  const int32_t *readers; /* by result: how many operands it is; NULL: not known */
  uint32_t site;
} mx_node;

/* -- passes: whether the results are there, in `out`. True with an error pending where something failed. ----------- */
bool mx_pass_inline(mx_rewrite *r, const mx_node *n, int32_t *out);      /* inline.c */
bool mx_pass_fold(mx_rewrite *r, const mx_node *n, int32_t *out);        /* fold.c */
bool mx_pass_simplify(mx_rewrite *r, const mx_node *n, int32_t *out);    /* simplify.c */
bool mx_pass_layout(mx_rewrite *r, const mx_node *n, int32_t *out);      /* layout.c */
bool mx_pass_reassociate(mx_rewrite *r, const mx_node *n, int32_t *out); /* reassociate.c */
bool mx_pass_sink(mx_rewrite *r, const mx_node *n, int32_t *out);        /* sink.c */
bool mx_pass_cse(mx_rewrite *r, const mx_node *n, int32_t *out);         /* cse.c */
bool mx_pass_hoist(mx_rewrite *r, const mx_node *n, int32_t *out);       /* hoist.c */

/* Parts of simplify: what moves elements without computing (simplify_shape.c), and to or from where (simplify_index.c);
 * sums of padded arrays (simplify_pad.c). */
bool mx_simplify_shape(mx_rewrite *r, const mx_node *n, int32_t *out);
bool mx_simplify_index(mx_rewrite *r, const mx_node *n, int32_t *out);
bool mx_simplify_pads(mx_rewrite *r, const mx_node *n, int32_t *out);

/* Parts of hoist, for scans (hoist_scan.c): the body of a loop that is being divided. */
typedef struct mx_hoisting {
  mx_rewrite *r;
  const mx_node *n;
  mx_body body;            /* its program is optimized; a reference */
  int64_t length;          /* of a scan; 0: not known */
  const int32_t *operands; /* by input of the body */
  const bool *stays;       /* by variable: must not be taken out; NULL: any may */
  const bool *wanted;      /* by variable: should be taken out though it is not heavy; NULL: none */
  int32_t *env;            /* by variable of the body: what was written for it, or -1 */
  mx_program *left;        /* a reference */
  int32_t *left_in;        /* its operands */
  int counts[3];
} mx_hoisting;
bool mx_hoist_start(mx_hoisting *h, mx_program *body); /* optimizes it */
bool mx_hoist_taken(mx_hoisting *h);                   /* chooses, and writes what is taken out */
bool mx_hoist_left(mx_hoisting *h, const bool *gone, const int32_t *outs, int n_out);
void mx_hoist_end(mx_hoisting *h);
bool mx_hoist_scan(mx_rewrite *r, const mx_node *n, int32_t *out);

/* The program with what it need not keep computed again where it is read: a new reference, of p itself where there is
 * nothing of that kind. (recompute.c) */
mx_program *mx_recompute(mx_ctx *c, mx_program *p);

/* -- writing (rewrite.c) ------------------------------------------------------------------------------------------- */

/* Asks the passes, then writes; fills the variables of the results. */
bool mx_rewrite_node(mx_rewrite *r, const mx_node *n, int32_t *out);
/* One result, its aval by the shape rule. -1: failed. */
int32_t mx_rewrite_make(mx_rewrite *r, const mx_primitive *prim, const mx_params *p, const int32_t *in, int n_in,
                        uint32_t site);
int32_t mx_rewrite_input(mx_rewrite *r, const mx_aval *a);
int32_t mx_rewrite_const(mx_rewrite *r, mx_array *x);
void mx_rewrite_free(mx_rewrite *r); /* all but the program */
/* The equations of p, whose inputs are these variables; fills those of its results. */
bool mx_rewrite_program(mx_rewrite *r, const mx_program *p, const int32_t *in, int32_t *outs);
/* The operation is written as it is. */
bool mx_rewrite_append(mx_rewrite *r, const mx_node *n, int32_t *out);
/* cse.c: an equation may be found from now on; that for a node, or NULL */
bool mx_cse_add(mx_rewrite *r, const mx_node *n, int32_t equation);
const mx_eqn *mx_cse_find(const mx_rewrite *r, const mx_node *n);

/* -- asking -------------------------------------------------------------------------------------------------------- */
static inline bool mx_pass_on(const mx_rewrite *r, mx_pass pass) { return r->on >> pass & 1; }
static inline const mx_aval *mx_aval_at(const mx_rewrite *r, int32_t v) { return r->to->avals[v]; }
static inline const mx_eqn *mx_maker(const mx_rewrite *r, int32_t v) { /* the equation that makes v, or NULL */
  return r->origin[v] >= 0 ? &r->to->eqns[r->origin[v]] : NULL;
}
/* The same if it applies this primitive. */
static inline const mx_eqn *mx_made_by(const mx_rewrite *r, int32_t v, mx_prim_id id) {
  const mx_eqn *e = mx_maker(r, v);
  return e && e->prim->id == id ? e : NULL;
}
static inline mx_array *mx_const_at(const mx_rewrite *r, int32_t v) { /* NULL: v is no constant */
  return r->origin[v] <= -2 ? r->to->consts[-2 - r->origin[v]] : NULL;
}
/* The avals of a node's operands, in scratch; NULL without memory. */
const mx_aval *const *mx_node_avals(mx_rewrite *r, const mx_node *n);
/* The operation that it is, with avals. False without memory. */
bool mx_node_op(mx_rewrite *r, const mx_node *n, mx_op *o);

/* An error of the operation itself is forgotten: it will be reported when it runs. False: memory ran out, or the
 * computation was interrupted. */
bool mx_forgive(mx_ctx *c);

#endif
