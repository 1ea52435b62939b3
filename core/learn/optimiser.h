/* optimiser.h: what a person may set of AdamW and its schedule, the same for learn-ids and train.
 *
 * Defaults are the paper's: betas 0.9 and 0.999, eps 1e-6, no decay, a rate that rises over a tenth of the steps and falls to 0 at the last;
 * a gradient is cut to norm 1 (ours). The rq-VAE has its own constant schedule and reads none of this. */
#ifndef SEMINDEX_OPTIMISER_H
#define SEMINDEX_OPTIMISER_H

#include "../base/mem.h"
#include "../model/t5.h"

struct optimiser { /* 0 = the default, < 0 = 0 */
    double beta1, beta2, eps; /* 0.9, 0.999, 1e-6 */
    double weight_decay;      /* 0 */
    double clip;              /* 1; 0: gradients of any norm */
    double warmup_share;      /* 0.1 */
};
void optimiser_defaults(struct optimiser *o);
/* Step `step` (from 1) of `total` at the peak rate lr. o: defaults filled in. */
struct t5_adamw optimiser_step(const struct optimiser *o, double lr, int64_t step, int64_t total);
/* Rates to be tried, the best on held-out data to be kept: --search-lr. */
enum { RATES_MAX = 8 };
struct rate_search {
    double lr[RATES_MAX];
    int32_t count; /* 0 = no search */
    int64_t steps; /* 0 = every trial is a whole run and the best one is kept; else trials are this long and a whole run follows */
};

/* "name=value" lines, see checkpoint.h. */
void optimiser_settings(const struct optimiser *o, struct str *out);

#endif
