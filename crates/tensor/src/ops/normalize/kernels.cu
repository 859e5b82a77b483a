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

extern "C" __global__ void __launch_bounds__(1024) moments(float* means, float* variances, const float* x, Groups groups) {
    unsigned g = group();
    if (g >= groups.count) return;
    Moments m = moments_of(x, groups, g);
    if (threadIdx.x > 0) return;
    means[g] = m.mean;
    variances[g] = m.variance;
}

extern "C" __global__ void __launch_bounds__(1024) normalize(float* out, const float* x, Groups groups, float eps) {
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
extern "C" __global__ void __launch_bounds__(1024) normalize_slope(
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

// The derivatives of <h, J grad> by x and by grad, J the slope at x: J h, and -r (hat mean(h J grad) + mean(h hat) J grad +
// mean(grad hat) J h); each added to what was before, if anything.
extern "C" __global__ void __launch_bounds__(1024) normalize_slope_back(
    float* dx, float* dg, const float* x, const float* grad, const float* h, const float* before_x,
    const float* before_g, Groups groups, float eps) {
    unsigned g = group();
    if (g >= groups.count) return;
    unsigned size = groups.size();
    Moments m = moments_of(x, groups, g);
    float r = 1.0f / sqrtf(m.variance + eps);
    float sums[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    for (unsigned i = threadIdx.x; i < size; i += blockDim.x) {
        unsigned at = groups.at(g, i);
        float hat = (x[at] - m.mean) * r;
        sums[0] += grad[at];
        sums[1] += grad[at] * hat;
        sums[2] += h[at];
        sums[3] += h[at] * hat;
    }
#pragma unroll
    for (unsigned i = 0; i < 4; ++i) sums[i] = combine(sums[i], Sum()) / (float)size;
    float along = 0.0f;
    for (unsigned i = threadIdx.x; i < size; i += blockDim.x) {
        unsigned at = groups.at(g, i);
        float hat = (x[at] - m.mean) * r;
        along += h[at] * (r * (grad[at] - sums[0] - hat * sums[1]));
    }
    along = combine(along, Sum()) / (float)size;
    for (unsigned i = threadIdx.x; i < size; i += blockDim.x) {
        unsigned at = groups.at(g, i);
        float hat = (x[at] - m.mean) * r;
        float by_grad = r * (grad[at] - sums[0] - hat * sums[1]), by_h = r * (h[at] - sums[2] - hat * sums[3]);
        float by_x = -r * (hat * along + sums[3] * by_grad + sums[1] * by_h);
        dx[at] = before_x ? before_x[at] + by_x : by_x;
        dg[at] = before_g ? before_g[at] + by_h : by_h;
    }
}
