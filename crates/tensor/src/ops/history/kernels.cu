// Fast weights as a history of their changes.

// Whether all elements equal the first, and that; one block.
extern "C" __global__ void uniform(float* out, const float* x, unsigned len) {
    float first = x[0];
    unsigned differ = 0;
    for (unsigned i = threadIdx.x; i < len; i += blockDim.x) differ |= x[i] != first;
    differ = __syncthreads_or(differ);
    if (threadIdx.x == 0) out[0] = first, out[1] = differ ? 0.0f : 1.0f;
}

// Change number `t` into p [batch, capacity, out], q [batch, capacity, inp] and weights [batch, capacity + 1, capacity]; a block
// an episode.
extern "C" __global__ void append_change(
    float* all_p, float* all_q, float* weights, const float* eta, const float* p, const float* q, unsigned t,
    unsigned capacity, unsigned out, unsigned inp) {
    size_t e = blockIdx.x;
    for (unsigned i = threadIdx.x; i < out; i += blockDim.x) all_p[(e * capacity + t) * out + i] = p[e * out + i];
    for (unsigned i = threadIdx.x; i < inp; i += blockDim.x) all_q[(e * capacity + t) * inp + i] = q[e * inp + i];
    float rate = eta[e], *before = weights + (e * (capacity + 1) + t) * capacity, *after = before + capacity;
    for (unsigned s = threadIdx.x; s < t; s += blockDim.x) after[s] = (1.0f - rate) * before[s];
    if (threadIdx.x == 0) after[t] = rate;
}

// y += sum over s < t of w(t, s) (alpha q_s·x + beta) p_s; a block an episode, with room for t numbers.
extern "C" __global__ void read_changes(
    float* y, const float* x, const float* p, const float* q, const float* weights, float alpha, float beta,
    unsigned t, unsigned capacity, unsigned out, unsigned inp) {
    extern __shared__ float factors[];
    size_t e = blockIdx.x;
    p += e * capacity * out;
    q += e * capacity * inp;
    weights += (e * (capacity + 1) + t) * capacity;
    x += e * inp;
    for (unsigned s = threadIdx.x / 32; s < t; s += blockDim.x / 32) {
        float sum = 0.0f;
        for (unsigned i = threadIdx.x % 32; i < inp; i += 32) sum += q[(size_t)s * inp + i] * x[i];
        sum = warp_sum(sum);
        if (threadIdx.x % 32 == 0) factors[s] = weights[s] * (alpha * sum + beta);
    }
    __syncthreads();
    for (unsigned i = threadIdx.x; i < out; i += blockDim.x) {
        float sum = y[e * out + i];
        for (unsigned s = 0; s < t; ++s) sum += factors[s] * p[(size_t)s * out + i];
        y[e * out + i] = sum;
    }
}
