// Sums in stages: x [outer, n, inner] becomes [outer, chunks, inner], each the sum of a chunk of at most
// `chunk` neighbours along the middle axis.

// For inner = 1; a group of threads a chunk.
extern "C" __global__ void sum_rows(
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

// Threads lie along inner (x) and along the chunk (y); a block takes `blockDim.x` columns of one chunk.
extern "C" __global__ void sum_columns(
    float* out, const float* x, unsigned n, unsigned inner, unsigned chunk, unsigned chunks) {
    unsigned tiles = (inner + blockDim.x - 1) / blockDim.x;
    unsigned column = blockIdx.x % tiles * blockDim.x + threadIdx.x;
    unsigned g = blockIdx.x / tiles;
    unsigned first = g % chunks * chunk, last = min(first + chunk, n);
    float sum = 0.0f;
    if (column < inner) {
        x += g / chunks * n * inner + column;
        for (unsigned i = first + threadIdx.y; i < last; i += blockDim.y) sum += x[i * inner];
    }
    __shared__ float parts[256];
    parts[threadIdx.y * blockDim.x + threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y > 0 || column >= inner) return;
    for (unsigned y = 1; y < blockDim.y; ++y) sum += parts[y * blockDim.x + threadIdx.x];
    out[g * inner + column] = sum;
}
