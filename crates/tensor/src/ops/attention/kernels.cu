// Attention of a sequence's next step over a cache of keys and values, [batch * heads, capacity, n]: a warp for each
// head of each episode. Rows of qkv are [q, k, v], each heads * n. Across a warp lie keys where a score is a dot product, and
// elements of a head where keys or values are added up.

struct Heads {
    // a step sees `len` steps of the cache from `first` on
    unsigned count, heads, n, capacity, first, len;
    float scale;
};

__device__ float dot(const float* a, const float* b, unsigned n) {
    float sum = 0.0f;
    if (n % 4 == 0) {
        for (unsigned i = 0; i < n; i += 4) {
            float4 x = *(const float4*)(a + i), y = *(const float4*)(b + i);
            sum += x.x * y.x + x.y * y.y + x.z * y.z + x.w * y.w;
        }
    } else {
        for (unsigned i = 0; i < n; ++i) sum += a[i] * b[i];
    }
    return sum;
}

extern "C" __global__ void attend(
    float* out, float* probabilities, const float* qkv, const float* keys, const float* values, const float* mask,
    Heads s) {
    unsigned head = element() / 32, lane = threadIdx.x % 32;
    if (head >= s.count) return;
    const float* q = qkv + ((size_t)(head / s.heads) * 3 * s.heads + head % s.heads) * s.n;
    size_t at = ((size_t)head * s.capacity + s.first) * s.n;
    keys += at;
    values += at;
    float* p = probabilities + (size_t)head * s.len;
    if (mask) mask += (size_t)head * s.len;
    float top = __int_as_float(0xff800000), sum = 0.0f;
    for (unsigned j = lane; j < s.len; j += 32) {
        float score = s.scale * dot(q, keys + (size_t)j * s.n, s.n);
        p[j] = score;
        top = fmaxf(top, score);
    }
#pragma unroll
    for (unsigned apart = 16; apart > 0; apart /= 2) top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, apart));
    for (unsigned j = lane; j < s.len; j += 32) {
        float e = expf(p[j] - top);
        p[j] = e;
        sum += e;
    }
    float rescale = 1.0f / warp_sum(sum);
    for (unsigned j = lane; j < s.len; j += 32) p[j] *= rescale;
    __syncwarp();
    for (unsigned i = lane; i < s.n; i += 32) {
        float mixed = 0.0f;
        for (unsigned j = 0; j < s.len; ++j) {
            mixed += (mask ? p[j] * mask[j] : p[j]) * values[(size_t)j * s.n + i];
        }
        out[(size_t)head * s.n + i] = mixed;
    }
}

// `scores` has room for the derivatives by the scores, as many as there are probabilities.
extern "C" __global__ void attend_back(
    float* d_qkv, float* d_keys, float* d_values, float* scores, const float* qkv, const float* keys,
    const float* values, const float* probabilities, const float* mask, const float* grad, Heads s) {
    unsigned head = element() / 32, lane = threadIdx.x % 32;
    if (head >= s.count) return;
    size_t row = ((size_t)(head / s.heads) * 3 * s.heads + head % s.heads) * s.n;
    size_t at = ((size_t)head * s.capacity + s.first) * s.n, along_keys = (size_t)head * s.len;
    const float *q = qkv + row, *g = grad + (size_t)head * s.n, *p = probabilities + along_keys;
    float along = 0.0f, *d = scores + along_keys;
    if (mask) mask += along_keys;
    for (unsigned j = lane; j < s.len; j += 32) {
        float by = dot(g, values + at + (size_t)j * s.n, s.n) * (mask ? mask[j] : 1.0f);
        d[j] = by;
        along += p[j] * by;
    }
    along = warp_sum(along);
    for (unsigned j = lane; j < s.len; j += 32) d[j] = s.scale * p[j] * (d[j] - along);
    __syncwarp();
    for (unsigned i = lane; i < s.n; i += 32) {
        float dq = 0.0f, here_q = q[i], here_g = g[i];
        for (unsigned j = 0; j < s.len; ++j) {
            size_t key = at + (size_t)j * s.n + i;
            dq += d[j] * keys[key];
            d_keys[key] += d[j] * here_q;
            d_values[key] += (mask ? p[j] * mask[j] : p[j]) * here_g;
        }
        d_qkv[row + i] = dq;
        d_qkv[row + s.heads * s.n + i] = 0.0f;
        d_qkv[row + 2 * s.heads * s.n + i] = 0.0f;
    }
}

// Where element `i` of [batch, heads, steps, n] lies in a cache, from step `start` on, and its key in rows of qkv.
__device__ uint2 cached(unsigned i, unsigned start, unsigned steps, const Heads& s) {
    unsigned along = i % s.n, step = i / s.n % steps, head = i / s.n / steps;
    unsigned cache = (head * s.capacity + start + step) * s.n + along;
    unsigned row = head / s.heads * steps + step;
    return make_uint2(cache, (row * 3 * s.heads + s.heads + head % s.heads) * s.n + along);
}

extern "C" __global__ void write_cache(
    float* keys, float* values, const float* qkv, unsigned start, unsigned steps, unsigned len, Heads s) {
    unsigned i = element();
    if (i >= len) return;
    uint2 at = cached(i, start, steps, s);
    keys[at.x] = qkv[at.y];
    values[at.x] = qkv[at.y + s.heads * s.n];
}

// The opposite, zero for q, added to what was before, if anything.
extern "C" __global__ void read_cache(
    float* qkv, const float* keys, const float* values, const float* before, unsigned start, unsigned steps,
    unsigned len, Heads s) {
    unsigned i = element();
    if (i >= len) return;
    uint2 at = cached(i, start, steps, s);
    unsigned q = at.y - s.heads * s.n, v = at.y + s.heads * s.n;
    qkv[q] = before ? before[q] : 0.0f;
    qkv[at.y] = before ? before[at.y] + keys[at.x] : keys[at.x];
    qkv[v] = before ? before[v] + values[at.x] : values[at.x];
}

extern "C" __global__ void add_to_cache(float* cache, const float* x, unsigned len, Heads s) {
    unsigned i = element();
    if (i < len) cache[cached(i, s.first, s.len, s).x] += x[i];
}

// `run` elements of every `from` ones, the first `skip` left out, then zeros until `to`.
extern "C" __global__ void resize_cache(
    float* out, const float* cache, unsigned skip, unsigned run, unsigned from, unsigned to, unsigned len) {
    unsigned i = element();
    if (i >= len) return;
    unsigned along = i % to;
    out[i] = along < run ? cache[i / to * from + skip + along] : 0.0f;
}
