/* bootstrap.h: how sure a mean over queries is, and whether two rankings of the same queries differ.
 *
 * Values lie row by row, [n, columns]: one row a query, one column a metric. A resample draws n rows with repetition by (seed, resample, draw),
 * so equal seed and n give equal resamples for every ranking. Intervals are percentile intervals: of the sorted resampled means, those at
 * 2.5 % and 97.5 % (position p * (resamples - 1), linear between two). Memory: resamples * columns doubles, whatever n is. */
#ifndef SEMINDEX_DATA_BOOTSTRAP_H
#define SEMINDEX_DATA_BOOTSTRAP_H

#include <stdint.h>

enum { BOOTSTRAP_RESAMPLES = 1000, BOOTSTRAP_SHUFFLES = 10000 };

struct bootstrap_values {
    const double *value; /* [n, columns] */
    int64_t n;           /* >= 1 */
    int32_t columns;
};
struct bootstrap_interval {
    double low, high;
};
/* out [columns] */
void bootstrap_intervals(const struct bootstrap_values *v, int32_t resamples, uint64_t seed, struct bootstrap_interval *out);

struct bootstrap_pair {
    double difference;                  /* mean of a - b */
    struct bootstrap_interval interval; /* of the difference, over resampled queries */
    double p;                           /* two-sided: (1 + sign flips at least as far from 0) / (1 + shuffles) */
};
/* Paired over queries; a and b have equal n and columns. out [columns]. Swapping a and b negates difference and interval and leaves p. */
void bootstrap_compare(const struct bootstrap_values *a, const struct bootstrap_values *b, uint64_t seed, struct bootstrap_pair *out);

#endif
