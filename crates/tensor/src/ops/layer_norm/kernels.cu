// Layer normalisation, a group of threads a row.

// What `element(i)` gives of the elements of a row that this thread has: the first of them are read once, all together, and stay in
// registers.
template <class T, class F> struct RowShare {
    static const unsigned HELD = 16;
    unsigned cols;
    F element;
    T held[HELD];

    __device__ RowShare(unsigned cols, F element) : cols(cols), element(element) {
#pragma unroll
        for (unsigned k = 0; k < HELD; ++k) {
            unsigned i = threadIdx.x + k * blockDim.x;
            held[k] = i < cols ? element(i) : T();
        }
    }

    // f(i, what there is of element i) for all of them, in their order.
    template <class G> __device__ void each(G f) const {
#pragma unroll
        for (unsigned k = 0; k < HELD; ++k) {
            unsigned i = threadIdx.x + k * blockDim.x;
            if (i < cols) f(i, held[k]);
        }
        for (unsigned i = threadIdx.x + HELD * blockDim.x; i < cols; i += blockDim.x) f(i, element(i));
    }

    // The row's mean of f; all of a group's threads call it.
    template <class G> __device__ float mean(G f) const {
        float sum = 0.0f;
        each([&](unsigned, const T& of) { sum += f(of); });
        return combine(sum, Sum()) / cols;
    }
};

template <class T, class F> __device__ RowShare<T, F> row_share(unsigned cols, F element) {
    return RowShare<T, F>(cols, element);
}

// Of x, or, if there is a y, of x + y, which goes to `sum`.
extern "C" __global__ void __launch_bounds__(256) layer_norm(
    float* out, float* sum, const float* x, const float* y, const float* gamma, const float* beta, unsigned rows,
    unsigned cols, float eps) {
    unsigned row = group();
    if (row >= rows) return;
    size_t at = (size_t)row * cols;
    auto share = row_share<float>(cols, [=](unsigned i) { return y ? x[at + i] + y[at + i] : x[at + i]; });
    if (y) share.each([=](unsigned i, float x) { sum[at + i] = x; });
    float mean = share.mean([](float x) { return x; });
    float variance = share.mean([=](float x) { return (x - mean) * (x - mean); });
    float scale = 1.0f / sqrtf(variance + eps);
    share.each([=](unsigned i, float x) {
        out[at + i] = (x - mean) * scale * __ldg(gamma + i) + __ldg(beta + i);
    });
}

// The derivative by x, added to what was before, if anything, and each row's mean and 1 / sqrt(variance + eps) for those by gamma and
// beta, if they are asked for.
extern "C" __global__ void __launch_bounds__(256) layer_norm_back(
    float* dx, float2* kept, const float* x, const float* gamma, const float* grad, const float* before,
    unsigned rows, unsigned cols, float eps) {
    unsigned row = group();
    if (row >= rows) return;
    size_t at = (size_t)row * cols;
    // x, the derivative by x̂, and what was before
    auto share = row_share<float3>(cols, [=](unsigned i) {
        return make_float3(x[at + i], grad[at + i] * gamma[i], before ? before[at + i] : 0.0f);
    });
    float mean = share.mean([](float3 of) { return of.x; });
    float variance = share.mean([=](float3 of) { return (of.x - mean) * (of.x - mean); });
    float scale = 1.0f / sqrtf(variance + eps);
    if (kept && threadIdx.x == 0) kept[row] = make_float2(mean, scale);
    float level = share.mean([](float3 of) { return of.y; });
    float along = share.mean([=](float3 of) { return of.y * ((of.x - mean) * scale); });
    share.each([=](unsigned i, float3 of) {
        dx[at + i] = of.z + scale * (of.y - level - (of.x - mean) * scale * along);
    });
}

// Sums over chunks of rows, [chunks, 2, cols]: of grad x̂ and of grad. A block has 32 columns and 8 rows at a time.
extern "C" __global__ void layer_norm_sums(
    float* out, const float2* kept, const float* x, const float* grad, unsigned rows, unsigned cols,
    unsigned chunk) {
    unsigned col = blockIdx.y * 32 + threadIdx.x, first = blockIdx.x * chunk, last = min(first + chunk, rows);
    float by_gamma = 0.0f, by_beta = 0.0f;
    if (col < cols) {
        for (unsigned row = first + threadIdx.y; row < last; row += 8) {
            float g = grad[(size_t)row * cols + col];
            float2 m = kept[row];
            by_gamma += g * ((x[(size_t)row * cols + col] - m.x) * m.y);
            by_beta += g;
        }
    }
    __shared__ float parts[2][8][32];
    parts[0][threadIdx.y][threadIdx.x] = by_gamma;
    parts[1][threadIdx.y][threadIdx.x] = by_beta;
    __syncthreads();
    if (threadIdx.y > 1 || col >= cols) return;
    float sum = 0.0f;
    for (unsigned y = 0; y < 8; ++y) sum += parts[threadIdx.y][y][threadIdx.x];
    out[((size_t)blockIdx.x * 2 + threadIdx.y) * cols + col] = sum;
}

// The sums of those: `a` and `b` [cols] of parts [chunks, 2, cols]; blocks as above, blockIdx.x the columns.
extern "C" __global__ void layer_norm_totals(
    float* a, float* b, const float* parts, unsigned chunks, unsigned cols) {
    unsigned col = blockIdx.x * 32 + threadIdx.x;
    float sums[2] = {0.0f, 0.0f};
    if (col < cols) {
        for (unsigned chunk = threadIdx.y; chunk < chunks; chunk += 8) {
            sums[0] += parts[((size_t)chunk * 2) * cols + col];
            sums[1] += parts[((size_t)chunk * 2 + 1) * cols + col];
        }
    }
    __shared__ float all[2][8][32];
    all[0][threadIdx.y][threadIdx.x] = sums[0];
    all[1][threadIdx.y][threadIdx.x] = sums[1];
    __syncthreads();
    if (threadIdx.y > 1 || col >= cols) return;
    float sum = 0.0f;
    for (unsigned y = 0; y < 8; ++y) sum += all[threadIdx.y][y][threadIdx.x];
    (threadIdx.y ? b : a)[col] = sum;
}
