/* optimiser.c: see optimiser.h. One place for the defaults, so that the two runs cannot drift apart. */
#include "optimiser.h"

static void fill(double *field, double value)
{
    if (*field == 0)
        *field = value;
    if (*field < 0)
        *field = 0;
}

void optimiser_defaults(struct optimiser *o)
{
    fill(&o->beta1, 0.9);
    fill(&o->beta2, 0.999);
    fill(&o->eps, 1e-6);
    fill(&o->weight_decay, 0);
    fill(&o->clip, 1);
    fill(&o->warmup_share, 0.1);
}

struct t5_adamw optimiser_step(const struct optimiser *o, double lr, int64_t step, int64_t total)
{
    return (struct t5_adamw){.lr = t5_schedule((float)lr, step, total, o->warmup_share),
                             .beta1 = (float)o->beta1,
                             .beta2 = (float)o->beta2,
                             .eps = (float)o->eps,
                             .weight_decay = (float)o->weight_decay,
                             .clip = (float)o->clip,
                             .step = step};
}

void optimiser_settings(const struct optimiser *o, struct str *out)
{
    str_printf(out, "adam_beta1=%.17g\nadam_beta2=%.17g\nadam_eps=%.17g\nweight_decay=%.17g\nclip=%.17g\nlr_warmup=%.17g\n", o->beta1,
               o->beta2, o->eps, o->weight_decay, o->clip, o->warmup_share);
}
