/* records.c: the records of all primitives as they are linked, one line each, for the table of
 * tests/coverage/table.lua:
 *
 *     name  family  results  slots...  kernels of devices...        separated by tabs; a slot or device stands where it
 * is filled
 */
#include "device/device.h"

#include <stdio.h>

static const char *const names[][2] = {
#define MX_PRIMITIVE(name, family) {#name, #family},
#include "ops/primitives.def"
};

static const mx_device *const devices[] = {&mx_cpu};

static void slot(const char *name, bool filled) {
  if (filled) printf("\t%s", name);
}

int main(void) {
  for (int i = 0; i < MX_PRIM_COUNT; i++) {
    const mx_primitive *p = mx_primitives[i];
    printf("%s\t%s\t%d", names[i][0], names[i][1], p->n_out);
    slot("shape", p->shape);
    slot("view", p->view);
    slot("d", p->d);
    slot("jvp", p->jvp);
    slot("linear", p->linear);
    slot("transpose", p->transpose);
    slot("transpose_all", p->transpose_all);
    slot("partial", p->partial);
    slot("batch", p->batch);
    slot("flops", p->flops);
    for (size_t d = 0; d < sizeof devices / sizeof *devices; d++) slot(devices[d]->name, devices[d]->kernels[i]);
    putchar('\n');
  }
  return 0;
}
