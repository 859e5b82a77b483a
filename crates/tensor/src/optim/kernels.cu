// Optimisers.

struct AdamW {
    float beta1, beta2, rest1, rest2, eps, keep, rate, root_scale;
};

struct AdamWUpdate {
    float* parameter;
    const float* gradient;
    float* first;
    float* second;
    AdamW constants;
    unsigned long long len;
};

struct AdamWUpdates {
    AdamWUpdate at[48];
};

// Several parameters' updates; blockIdx.y is the parameter.
extern "C" __global__ void adamw(const __grid_constant__ AdamWUpdates updates) {
    const AdamWUpdate& update = updates.at[blockIdx.y];
    const AdamW& s = update.constants;
    for (unsigned long long i = element(); i < update.len; i += gridDim.x * blockDim.x) {
        float g = update.gradient[i];
        float m = s.beta1 * update.first[i] + s.rest1 * g;
        float v = s.beta2 * update.second[i] + s.rest2 * g * g;
        update.first[i] = m;
        update.second[i] = v;
        update.parameter[i] = s.keep * update.parameter[i] - s.rate * m / (sqrtf(v) * s.root_scale + s.eps);
    }
}

// A sum of squares of each chunk, in double precision; a group of threads a chunk.
extern "C" __global__ void __launch_bounds__(1024) sum_of_squares(double* out, const float* x, unsigned chunk, unsigned len) {
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
