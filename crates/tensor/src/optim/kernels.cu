// Optimisers.

struct AdamW {
    float beta1, beta2, rest1, rest2, eps, keep, rate, root_scale;
};

extern "C" __global__ void adamw(
    float* parameter, const float* gradient, float* first, float* second, AdamW s, unsigned len) {
    unsigned i = element();
    if (i >= len) return;
    float g = gradient[i];
    float m = s.beta1 * first[i] + s.rest1 * g;
    float v = s.beta2 * second[i] + s.rest2 * g * g;
    first[i] = m;
    second[i] = v;
    parameter[i] = s.keep * parameter[i] - s.rate * m / (sqrtf(v) * s.root_scale + s.eps);
}

// A sum of squares of each chunk, in double precision; a group of threads a chunk.
extern "C" __global__ void sum_of_squares(double* out, const float* x, unsigned chunk, unsigned len) {
    unsigned first = group() * chunk, last = min(first + chunk, len);
    if (first >= len) return;
    double sum = 0.0;
    for (unsigned i = first + threadIdx.x; i < last; i += blockDim.x) sum += (double)x[i] * (double)x[i];
    sum = combine(sum, Sum());
    if (threadIdx.x == 0) out[group()] = sum;
}

extern "C" __global__ void scale_assign(float* x, float c, unsigned len) {
    unsigned i = element();
    if (i < len) x[i] *= c;
}
