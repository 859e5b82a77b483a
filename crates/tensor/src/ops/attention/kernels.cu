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

// What a head's derivatives are made of: where its q lies in rows of qkv and its first key in the cache; the probabilities that attend
// gave, and their mask.
struct Head {
    size_t row, at;
    const float *q, *g, *p, *mask;

    __device__ Head(
        unsigned head, const float* qkv, const float* grad, const float* probabilities, const float* masks, const Heads& s) {
        row = ((size_t)(head / s.heads) * 3 * s.heads + head % s.heads) * s.n;
        at = ((size_t)head * s.capacity + s.first) * s.n;
        q = qkv + row;
        g = grad + (size_t)head * s.n;
        p = probabilities + (size_t)head * s.len;
        mask = masks ? masks + (size_t)head * s.len : nullptr;
    }

    __device__ float masked(unsigned j, float x) const { return mask ? x * mask[j] : x; }
};

// Adds what `by(j, key)` gives to the derivatives by key and value j, whose element is number `key` of the cache, for all j in their
// order; element `at` is the first key's. Eight are read before the first is written, so that a thread does not wait for memory once
// for each.
template <class F> __device__ void add_by_keys(float* d_keys, float* d_values, size_t at, const Heads& s, F by) {
    const unsigned together = 8;
    for (unsigned first = 0; first < s.len; first += together) {
        float by_k[together], by_v[together];
#pragma unroll
        for (unsigned n = 0; n < together; ++n) {
            if (first + n >= s.len) break;
            size_t key = at + (size_t)(first + n) * s.n;
            float2 more = by(first + n, key);
            by_k[n] = d_keys[key] + more.x;
            by_v[n] = d_values[key] + more.y;
        }
#pragma unroll
        for (unsigned n = 0; n < together; ++n) {
            if (first + n >= s.len) break;
            size_t key = at + (size_t)(first + n) * s.n;
            d_keys[key] = by_k[n];
            d_values[key] = by_v[n];
        }
    }
}

// The derivatives by the scores, d = scale p (a - <p, a>) with a = mask (V g), those by the output being g.
__device__ void by_scores(float* d, const Head& h, const float* values, const Heads& s) {
    unsigned lane = threadIdx.x % 32;
    float along = 0.0f;
    for (unsigned j = lane; j < s.len; j += 32) {
        float a = h.masked(j, dot(h.g, values + h.at + (size_t)j * s.n, s.n));
        d[j] = a;
        along += h.p[j] * a;
    }
    along = warp_sum(along);
    for (unsigned j = lane; j < s.len; j += 32) d[j] = s.scale * h.p[j] * (d[j] - along);
    __syncwarp();
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
#pragma unroll 8
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
    Head h(head, qkv, grad, probabilities, mask, s);
    float* d = scores + (size_t)head * s.len;
    by_scores(d, h, values, s);
    for (unsigned i = lane; i < s.n; i += 32) {
        float dq = 0.0f, here_q = h.q[i], here_g = h.g[i];
        add_by_keys(d_keys, d_values, h.at + i, s, [&](unsigned j, size_t key) {
            dq += d[j] * keys[key];
            return make_float2(d[j] * here_q, h.masked(j, h.p[j]) * here_g);
        });
        d_qkv[h.row + i] = dq;
        d_qkv[h.row + s.heads * s.n + i] = 0.0f;
        d_qkv[h.row + 2 * s.heads * s.n + i] = 0.0f;
    }
}

// The derivative of attend by its own step's q, k and v, that by the output being `grad`: d K, d_l q and w_l grad, where d is that by
// the scores, w = p mask, and l the step itself, the last. `scores` has room for d.
extern "C" __global__ void attend_slope(
    float* d_qkv, float* scores, const float* qkv, const float* keys, const float* values, const float* probabilities,
    const float* mask, const float* grad, Heads s) {
    unsigned head = element() / 32, lane = threadIdx.x % 32, last = s.len - 1;
    if (head >= s.count) return;
    Head h(head, qkv, grad, probabilities, mask, s);
    float* d = scores + (size_t)head * s.len;
    by_scores(d, h, values, s);
    float weight = h.masked(last, h.p[last]);
    for (unsigned i = lane; i < s.n; i += 32) {
        float dq = 0.0f;
#pragma unroll 8
        for (unsigned j = 0; j < s.len; ++j) dq += d[j] * keys[h.at + (size_t)j * s.n + i];
        d_qkv[h.row + i] = dq;
        d_qkv[h.row + s.heads * s.n + i] = d[last] * h.q[i];
        d_qkv[h.row + 2 * s.heads * s.n + i] = weight * h.g[i];
    }
}

struct SlopeBack {
    float* d_qkv;
    float* d_grad;
    float* d_keys;
    float* d_values;
    float* scratch;
    const float* qkv;
    const float* keys;
    const float* values;
    const float* probabilities;
    const float* mask;
    const float* grad;
    const float* h;
};

// The way back of attend_slope, h being the derivative by what it gave: those by q, zero for k and v, and by `grad`; those by the
// keys and values are added to their own. With u = K h_q, and h_k·q more for the last, that by D is u; so it is scale p (u - <p, u>)
// by a, and scale (u (a - <p, a>) - a <p, u>) by p. `scratch` has room for three numbers a probability.
extern "C" __global__ void attend_slope_back(SlopeBack given, Heads s) {
    unsigned head = element() / 32, lane = threadIdx.x % 32, last = s.len - 1, width = s.heads * s.n;
    if (head >= s.count) return;
    Head of(head, given.qkv, given.grad, given.probabilities, given.mask, s);
    const float *q = of.q, *g = of.g, *p = of.p, *keys = given.keys, *values = given.values;
    const float *hq = given.h + of.row, *hk = hq + width, *hv = hk + width;
    float *d = given.scratch + 3 * (size_t)head * s.len, *by_a = d + s.len, *by_score = by_a + s.len;
    float own = 0.0f, weighed = 0.0f;
    for (unsigned i = lane; i < s.n; i += 32) own += hk[i] * q[i], weighed += hv[i] * g[i];
    own = warp_sum(own), weighed = warp_sum(weighed);
    float along_a = 0.0f, along_u = 0.0f;
    for (unsigned j = lane; j < s.len; j += 32) {
        float a = of.masked(j, dot(g, values + of.at + (size_t)j * s.n, s.n));
        float u = dot(hq, keys + of.at + (size_t)j * s.n, s.n) + (j == last ? own : 0.0f);
        d[j] = a;
        by_a[j] = u;
        along_a += p[j] * a;
        along_u += p[j] * u;
    }
    along_a = warp_sum(along_a), along_u = warp_sum(along_u);
    float along = 0.0f;
    for (unsigned j = lane; j < s.len; j += 32) {
        float a = d[j], u = by_a[j];
        float by_p = s.scale * (u * (a - along_a) - a * along_u) + (j == last ? of.masked(j, weighed) : 0.0f);
        d[j] = s.scale * p[j] * (a - along_a);
        by_a[j] = of.masked(j, s.scale * p[j] * (u - along_u));
        by_score[j] = by_p;
        along += p[j] * by_p;
    }
    along = warp_sum(along);
    for (unsigned j = lane; j < s.len; j += 32) by_score[j] = s.scale * p[j] * (by_score[j] - along);
    __syncwarp();
    float weight = of.masked(last, p[last]);
    for (unsigned i = lane; i < s.n; i += 32) {
        float dq = d[last] * hk[i], dg = weight * hv[i];
        float here_h = hq[i], here_q = q[i], here_g = g[i];
        add_by_keys(given.d_keys, given.d_values, of.at + i, s, [&](unsigned j, size_t key) {
            dq += by_score[j] * keys[key];
            dg += by_a[j] * values[key];
            return make_float2(d[j] * here_h + by_score[j] * here_q, by_a[j] * here_g);
        });
        given.d_qkv[of.row + i] = dq;
        given.d_qkv[of.row + width + i] = 0.0f;
        given.d_qkv[of.row + 2 * width + i] = 0.0f;
        given.d_grad[(size_t)head * s.n + i] = dg;
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
