/* metrics.h: how good a ranking, and how alike two labelings, are. All in double.
 *
 * A query counts when it has a document of grade >= 1; a counted query without results scores 0. Ties are broken by document name in descending
 * byte order after the score (trec_eval's rule, so d9 comes before d10): rankings from anywhere are sorted once by metrics_sort, then everything
 * works on the grades by rank. Formulas: fixtures README, "metrics". */
#ifndef SEMINDEX_DATA_METRICS_H
#define SEMINDEX_DATA_METRICS_H

#include <stdbool.h>
#include <stdint.h>

struct metrics_hit {
    const char *document; /* not owned */
    double score;
    int32_t grade;        /* 0 = unjudged */
};
/* Best first: score descending, then name in descending byte order. */
void metrics_sort(struct metrics_hit *hits, int32_t n);

enum metrics_kind { METRICS_RECALL, METRICS_HIT, METRICS_MRR, METRICS_NDCG, METRICS_NDCG_RETRIEVED };
struct metrics_metric {
    enum metrics_kind kind;
    int32_t k; /* cut, >= 1 */
};
/* "Recall@10", "Hit@1", "MRR@10", "nDCG@10", "nDCG_retrieved@10"; false when it is none of these. */
bool metrics_parse(const char *name, struct metrics_metric *m);
/* The same name into out. */
void metrics_name(const struct metrics_metric *m, char out[32]);

/* One query: what came back, and what should have. */
struct metrics_query {
    const int32_t *grades;   /* [returned] grade of the document at each rank, 0 = not relevant; the whole returned list */
    int32_t returned;
    const int32_t *relevant; /* [relevants] grades >= 1 of all relevant documents, any order */
    int32_t relevants;       /* 0: the query does not count, its value is 0 */
};
double metrics_value(const struct metrics_metric *m, const struct metrics_query *q);

/* Adjusted mutual information of two labelings of n things (labels are any numbers): (MI - E[MI]) / ((H(a) + H(b)) / 2 - E[MI]) with natural
 * logarithms and the hypergeometric expectation; 1 when both are one cluster or both all distinct. */
double metrics_ami(const int32_t *a, const int32_t *b, int32_t n);

/* Labels of strings: equal string, equal number, from 0 in order of appearance; NULL is as "". */
void metrics_labels(int32_t *labels, const char *const *names, int32_t n);

#endif
