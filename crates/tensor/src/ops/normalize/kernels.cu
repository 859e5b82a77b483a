// Standardising groups of elements, a group of threads each. Elements are seen as [outer, count, inner]; a
// group is those with one middle index.

struct Groups {
    unsigned outer, count, inner;

    __device__ unsigned size() const { return outer * inner; }

    // Where element `i` of group `g` lies.
    __device__ unsigned at(unsigned g, unsigned i) const {
        return outer == 1 ? g * inner + i : (i / inner * count + g) * inner + i % inner;
    }
};

struct Moments {
    float mean, variance;
};

__device__ Moments moments_of(const float* x, const Groups& groups, unsigned g) {
    unsigned size = groups.size();
    float sum = 0.0f, squares = 0.0f;
    for (unsigned i = threadIdx.x; i < size; i += blockDim.x) sum += x[groups.at(g, i)];
    float mean = combine(sum, Sum()) / (float)size;
    for (unsigned i = threadIdx.x; i < size; i += blockDim.x) {
        float off = x[groups.at(g, i)] - mean;
        squares += off * off;
    }
    return {mean, combine(squares, Sum()) / (float)size};
}

extern "C" __global__ void moments(float* means, float* variances, const float* x, Groups groups) {
    unsigned g = group();
    if (g >= groups.count) return;
    Moments m = moments_of(x, groups, g);
    if (threadIdx.x > 0) return;
    means[g] = m.mean;
    variances[g] = m.variance;
}

extern "C" __global__ void normalize(float* out, const float* x, Groups groups, float eps) {
    unsigned g = group();
    if (g >= groups.count) return;
    Moments m = moments_of(x, groups, g);
    float r = 1.0f / sqrtf(m.variance + eps);
    for (unsigned i = threadIdx.x; i < groups.size(); i += blockDim.x) {
        unsigned at = groups.at(g, i);
        out[at] = (x[at] - m.mean) * r;
    }
}

// r (grad - mean(grad) - hat mean(grad hat)), hat being the normalised x
extern "C" __global__ void normalize_slope(
    float* out, const float* x, const float* grad, Groups groups, float eps) {
    unsigned g = group();
    if (g >= groups.count) return;
    unsigned size = groups.size();
    Moments m = moments_of(x, groups, g);
    float r = 1.0f / sqrtf(m.variance + eps);
    float sum = 0.0f, product = 0.0f;
    for (unsigned i = threadIdx.x; i < size; i += blockDim.x) {
        unsigned at = groups.at(g, i);
        sum += grad[at];
        product += grad[at] * ((x[at] - m.mean) * r);
    }
    float mean = combine(sum, Sum()) / (float)size, along = combine(product, Sum()) / (float)size;
    for (unsigned i = threadIdx.x; i < size; i += blockDim.x) {
        unsigned at = groups.at(g, i);
        out[at] = r * (grad[at] - mean - (x[at] - m.mean) * r * along);
    }
}
