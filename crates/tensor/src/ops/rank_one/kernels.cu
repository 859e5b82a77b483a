// Norms of changes of rank one, a warp an episode.

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

extern "C" __global__ void rank_one_norms(
    float* sums, RankOnePairs pairs, unsigned count, unsigned batch, unsigned more) {
    unsigned e = element() / 32;
    if (e >= batch) return;
    float sum = more ? sums[e] : 0.0f;
    for (unsigned i = 0; i < count; ++i) {
        float p = squared_norm(pairs.p[i] + (size_t)e * pairs.out[i], pairs.out[i]);
        sum += p * squared_norm(pairs.q[i] + (size_t)e * pairs.inp[i], pairs.inp[i]);
    }
    if (threadIdx.x % 32 == 0) sums[e] = sum;
}

// Derivatives by up to 16 such pairs, and what they are added to, or null.
struct RankOneBack {
    float* dp[16];
    float* dq[16];
    const float* before_p[16];
    const float* before_q[16];
};

// dp = 2 g ‖q‖² p and dq = 2 g ‖p‖² q, added to what was before, if anything; blockIdx.y is the pair.
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
    for (unsigned i = threadIdx.x % 32; i < out; i += 32) {
        dp[i] = before_p ? before_p[at_p + i] + by_p * p[i] : by_p * p[i];
    }
    for (unsigned i = threadIdx.x % 32; i < inp; i += 32) {
        dq[i] = before_q ? before_q[at_q + i] + by_q * q[i] : by_q * q[i];
    }
}
