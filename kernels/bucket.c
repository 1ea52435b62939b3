/* bucket.c: T5's relative position bucket, the one formula that host and devices share.
 *
 * It stands alone so that a backend's module can link it without the rest of this folder; devices read it from a table made with it.
 * Small distances have a bucket each; from half the buckets on they grow with the logarithm, in single precision as the original does,
 * since which side of a boundary a distance falls on is part of the model. */
#include "backend.h"

#include <math.h>

int32_t attention_bucket(int32_t distance, bool bidirectional, int32_t buckets, int32_t max_distance)
{
    int32_t base = 0;
    if (bidirectional) {
        buckets /= 2;
        base = distance > 0 ? buckets : 0;
        distance = distance < 0 ? -distance : distance;
    } else {
        distance = distance < 0 ? -distance : 0;
    }
    int32_t exact = buckets / 2;
    if (distance < exact)
        return base + distance;
    float share = logf((float)distance / (float)exact) / (float)log((double)max_distance / exact);
    int32_t large = exact + (int32_t)(share * (float)(buckets - exact));
    return base + (large < buckets - 1 ? large : buckets - 1);
}
