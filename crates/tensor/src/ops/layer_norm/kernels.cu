// Layer normalisation, a group of threads a row.

// A row's mean and 1 / sqrt(variance + eps); all of a group's threads call it.
__device__ float2 moments(const float* x, unsigned cols, float eps) {
    float sum = 0.0f, squares = 0.0f;
    for (unsigned i = threadIdx.x; i < cols; i += blockDim.x) sum += x[i];
    float mean = combine(sum, Sum()) / cols;
    for (unsigned i = threadIdx.x; i < cols; i += blockDim.x) squares += (x[i] - mean) * (x[i] - mean);
    return make_float2(mean, 1.0f / sqrtf(combine(squares, Sum()) / cols + eps));
}

// Of x, or, if there is a y, of x + y, which goes to `sum`.
extern "C" __global__ void layer_norm(
    float* out, float* sum, const float* x, const float* y, const float* gamma, const float* beta, unsigned rows,
    unsigned cols, float eps) {
    unsigned row = group();
    if (row >= rows) return;
    x += (size_t)row * cols;
    if (y) {
        y += (size_t)row * cols;
        sum += (size_t)row * cols;
        // a thread reads again what it wrote itself, and nothing else
        for (unsigned i = threadIdx.x; i < cols; i += blockDim.x) sum[i] = x[i] + y[i];
        x = sum;
    }
    out += (size_t)row * cols;
    float2 m = moments(x, cols, eps);
    for (unsigned i = threadIdx.x; i < cols; i += blockDim.x) out[i] = (x[i] - m.x) * m.y * gamma[i] + beta[i];
}

// The derivative by x, added to what was before, if anything, and each row's moments for those by gamma and beta, if they are
// asked for.
extern "C" __global__ void layer_norm_back(
    float* dx, float2* kept, const float* x, const float* gamma, const float* grad, const float* before,
    unsigned rows, unsigned cols, float eps) {
    unsigned row = group();
    if (row >= rows) return;
    x += (size_t)row * cols;
    dx += (size_t)row * cols;
    if (before) before += (size_t)row * cols;
    grad += (size_t)row * cols;
    float2 m = moments(x, cols, eps);
    if (kept && threadIdx.x == 0) kept[row] = m;
    float sum = 0.0f, along = 0.0f;
    for (unsigned i = threadIdx.x; i < cols; i += blockDim.x) {
        float h = grad[i] * gamma[i];
        sum += h;
        along += h * ((x[i] - m.x) * m.y);
    }
    float mean = combine(sum, Sum()) / cols;
    along = combine(along, Sum()) / cols;
    for (unsigned i = threadIdx.x; i < cols; i += blockDim.x) {
        float by_x = m.y * (grad[i] * gamma[i] - mean - (x[i] - m.x) * m.y * along);
        dx[i] = before ? before[i] + by_x : by_x;
    }
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
