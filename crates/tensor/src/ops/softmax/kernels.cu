// Softmax and its logarithm, a group of threads a row.

// The row's largest element. A NaN is passed over here and shows in the sum of the exponentials.
__device__ float largest(const float* x, unsigned cols) {
    float top = __int_as_float(0xff800000);
    for (unsigned i = threadIdx.x; i < cols; i += blockDim.x) top = fmaxf(top, x[i]);
    return combine(top, Largest());
}

extern "C" __global__ void __launch_bounds__(1024) softmax(float* out, const float* x, unsigned rows, unsigned cols) {
    unsigned row = group();
    if (row >= rows) return;
    x += row * cols;
    out += row * cols;
    float top = largest(x, cols), sum = 0.0f;
    for (unsigned i = threadIdx.x; i < cols; i += blockDim.x) {
        float y = expf(x[i] - top);
        out[i] = y;
        sum += y;
    }
    float scale = 1.0f / combine(sum, Sum());
    for (unsigned i = threadIdx.x; i < cols; i += blockDim.x) out[i] *= scale;
}

extern "C" __global__ void __launch_bounds__(1024) log_softmax(float* out, const float* x, unsigned rows, unsigned cols) {
    unsigned row = group();
    if (row >= rows) return;
    x += row * cols;
    out += row * cols;
    float top = largest(x, cols), sum = 0.0f;
    for (unsigned i = threadIdx.x; i < cols; i += blockDim.x) sum += expf(x[i] - top);
    float shift = top + logf(combine(sum, Sum()));
    for (unsigned i = threadIdx.x; i < cols; i += blockDim.x) out[i] = x[i] - shift;
}
