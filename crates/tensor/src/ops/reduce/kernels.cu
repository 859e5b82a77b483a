// Sums in stages: x [outer, n, inner] becomes [outer, chunks, inner], each the sum of a chunk of at most
// `chunk` neighbours along the middle axis.

// For inner = 1; a group of threads a chunk.
extern "C" __global__ void __launch_bounds__(1024) sum_rows(
    float* out, const float* x, unsigned outer, unsigned n, unsigned chunk, unsigned chunks) {
    unsigned g = group();
    if (g >= outer * chunks) return;
    unsigned first = g % chunks * chunk, len = min(chunk, n - first);
    x += g / chunks * n + first;
    float sum = 0.0f;
    for (unsigned i = threadIdx.x; i < len; i += blockDim.x) sum += x[i];
    sum = combine(sum, Sum());
    if (threadIdx.x == 0) out[g] = sum;
}

// For any inner: threads lie along the outputs (x), neighbours of which are neighbours in x too, and along the
// chunk of each (y).
extern "C" __global__ void sum_columns(
    float* out, const float* x, unsigned n, unsigned inner, unsigned chunk, unsigned chunks, unsigned len) {
    unsigned i = element();
    float sum = 0.0f;
    if (i < len) {
        unsigned g = i / inner;
        unsigned first = g % chunks * chunk, last = min(first + chunk, n);
        x += g / chunks * n * inner + i % inner;
        for (unsigned row = first + threadIdx.y; row < last; row += blockDim.y) sum += x[row * inner];
    }
    __shared__ float parts[256];
    parts[threadIdx.y * blockDim.x + threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y > 0 || i >= len) return;
    for (unsigned y = 1; y < blockDim.y; ++y) sum += parts[y * blockDim.x + threadIdx.x];
    out[i] = sum;
}
