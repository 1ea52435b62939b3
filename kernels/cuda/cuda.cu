/* cuda.cu: opens the cuda backend, fills its table, and is the one door of semindex-cuda.so.
 *
 * The table is a constant; only the device's name is written, by open. Recordings and faults are the platform's own functions, so the real
 * device and the emulation fill the same table. The module's one visible symbol carries the checksum of backend.h that it was built from: a
 * program built from another one must not call through this table. The bucket tables, which several ops read, are made here, too. */
#include "cuda.h"

#include <string.h>

static char device_name[96];

static void unpack(float *y, const void *landed, int64_t n)
{
    const real *x = (const real *)landed;
    for (int64_t i = 0; i < n; i++)
        y[i] = to_float(x[i]);
}

static const struct backend table = {
    .name = "cuda",
    .device = device_name,
    .has_host_memory = false,
    .act_bytes = sizeof(real),
    .memory_free = platform_memory,
    .alloc = cuda_alloc,
    .release = cuda_release,
    .act_alloc = cuda_act_alloc,
    .act_at = cuda_act_at,
    .upload = cuda_upload,
    .download = cuda_download,
    .write = cuda_write,
    .read = cuda_read,
    .zero = cuda_zero,
    .act_zero = cuda_act_zero,
    .weight_open = cuda_weight_open,
    .weight_refresh = cuda_weight_refresh,
    .weight_close = cuda_weight_close,
    .embed = cuda_embed,
    .embed_backward = cuda_embed_backward,
    .gather = cuda_gather,
    .scatter_add = cuda_scatter_add,
    .dropout = cuda_dropout,
    .axpy = cuda_axpy,
    .pool_mean = cuda_pool_mean,
    .add_rmsnorm = cuda_add_rmsnorm,
    .rmsnorm_backward = cuda_rmsnorm_backward,
    .linear = cuda_linear,
    .linear_backward = cuda_linear_backward,
    .relu_backward = cuda_relu_backward,
    .gated_gelu = cuda_gated_gelu,
    .gated_gelu_backward = cuda_gated_gelu_backward,
    .attention = cuda_attention,
    .attention_backward = cuda_attention_backward,
    .decode_attention = cuda_decode_attention,
    .decode_stack = cuda_decode_stack,
    .ancestors = cuda_ancestors,
    .hint_attention = cuda_hint_attention,
    .hint_attention_backward = cuda_hint_attention_backward,
    .head_loss = cuda_head_loss,
    .quantise = cuda_quantise,
    .quantise_backward = cuda_quantise_backward,
    .contrastive = cuda_contrastive,
    .kmeans_assign = cuda_kmeans_assign,
    .beam_step = cuda_beam_step,
    .sum_squares = cuda_sum_squares,
    .adamw = cuda_adamw,
    .record_begin = platform_record_begin,
    .record_end = platform_record_end,
    .replay = platform_replay,
    .record_free = platform_record_free,
    .recording_bytes = platform_recording_bytes,
    .landing_open = platform_landing_open,
    .landing_close = platform_landing_close,
    .land = platform_land,
    .landed = platform_landed,
    .unpack = unpack,
    .on_fault = platform_on_fault,
};

const uint8_t *cuda_bucket_table(bool bidirectional, int32_t buckets, int32_t max_distance)
{
    enum { TABLES = 16 };
    static struct {
        bool bidirectional;
        int32_t buckets, max_distance;
        uint8_t *table;
    } made[TABLES];
    int32_t at = 0, entries = 2 * max_distance + 1;
    while (at < TABLES && made[at].table &&
           (made[at].bidirectional != bidirectional || made[at].buckets != buckets || made[at].max_distance != max_distance))
        at++;
    CHECK(at < TABLES && buckets <= 256);
    if (made[at].table)
        return made[at].table;
    uint8_t *host = (uint8_t *)malloc((size_t)entries), *device = (uint8_t *)platform_alloc((size_t)entries);
    CHECK(host && device);
    for (int32_t d = -max_distance; d <= max_distance; d++)
        host[d + max_distance] = (uint8_t)attention_bucket(d, bidirectional, buckets, max_distance);
    platform_write(device, host, (size_t)entries);
    free(host);
    made[at].bidirectional = bidirectional;
    made[at].buckets = buckets;
    made[at].max_distance = max_distance;
    made[at].table = device;
    return device;
}

const struct backend *cuda_backend_open(int index, char *message, size_t message_size)
{
    if (platform_open(index, device_name, sizeof device_name, message, message_size) != 0)
        return NULL;
    return &table;
}

#ifndef SEMINDEX_EMU
extern "C" __attribute__((visibility("default"))) const struct backend_module semindex_backend_module;
const struct backend_module semindex_backend_module = {SEMINDEX_BACKEND_ABI, sizeof(struct backend), cuda_backend_open};
#endif
