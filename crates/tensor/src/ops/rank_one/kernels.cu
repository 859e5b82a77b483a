// Norms of changes of rank one.

// Up to 16 pairs of p [batch, out] and q [batch, inp].
struct RankOnePairs {
    const float* p[16];
    const float* q[16];
    unsigned out[16];
    unsigned inp[16];
};

// The sum of a row's squares; a warp's threads call it together.
__device__ float squared_norm(const float* row, unsigned len) {
    float sum = 0.0f;
    for (unsigned i = threadIdx.x % 32; i < len; i += 32) sum += row[i] * row[i];
    return warp_sum(sum);
}

// A block an episode, a warp a pair, which is threadIdx.y.
extern "C" __global__ void rank_one_norms(
    float* sums, const __grid_constant__ RankOnePairs pairs, unsigned count, unsigned more) {
    __shared__ float squares[16][2];
    unsigned e = blockIdx.x, pair = threadIdx.y;
    float p = squared_norm(pairs.p[pair] + (size_t)e * pairs.out[pair], pairs.out[pair]);
    float q = squared_norm(pairs.q[pair] + (size_t)e * pairs.inp[pair], pairs.inp[pair]);
    if (threadIdx.x == 0) squares[pair][0] = p, squares[pair][1] = q;
    __syncthreads();
    if (threadIdx.x > 0 || pair > 0) return;
    float sum = more ? sums[e] : 0.0f;
    for (unsigned i = 0; i < count; ++i) sum += squares[i][0] * squares[i][1];
    sums[e] = sum;
}

// Derivatives by up to 16 such pairs, and what they are added to, or null.
struct RankOneBack {
    float* dp[16];
    float* dq[16];
    const float* before_p[16];
    const float* before_q[16];
};

// to = by x, added to what was before, if anything; a warp's threads call it together. Eight elements a thread are read before the
// first is written.
__device__ void add_scaled(float* to, const float* before, float by, const float* x, unsigned len) {
    for (unsigned first = threadIdx.x % 32; first < len; first += 8 * 32) {
        float sums[8];
#pragma unroll
        for (unsigned k = 0; k < 8; ++k) {
            unsigned i = first + 32 * k;
            if (i < len) sums[k] = before ? before[i] + by * x[i] : by * x[i];
        }
#pragma unroll
        for (unsigned k = 0; k < 8; ++k) {
            if (first + 32 * k < len) to[first + 32 * k] = sums[k];
        }
    }
}

// dp = 2 g ‖q‖² p and dq = 2 g ‖p‖² q, added to what was before, if anything; a warp an episode, and blockIdx.y is
// the pair.
extern "C" __global__ void rank_one_norms_back(
    const __grid_constant__ RankOneBack back, const __grid_constant__ RankOnePairs pairs, const float* grad,
    unsigned batch) {
    unsigned e = element() / 32, pair = blockIdx.y;
    if (e >= batch) return;
    unsigned out = pairs.out[pair], inp = pairs.inp[pair];
    size_t at_p = (size_t)e * out, at_q = (size_t)e * inp;
    const float *p = pairs.p[pair] + at_p, *q = pairs.q[pair] + at_q;
    const float *before_p = back.before_p[pair], *before_q = back.before_q[pair];
    float *dp = back.dp[pair] + at_p, *dq = back.dq[pair] + at_q;
    float twice = 2.0f * grad[e];
    float by_p = twice * squared_norm(q, inp), by_q = twice * squared_norm(p, out);
    add_scaled(dp, before_p ? before_p + at_p : nullptr, by_p, p, out);
    add_scaled(dq, before_q ? before_q + at_q : nullptr, by_q, q, inp);
}
