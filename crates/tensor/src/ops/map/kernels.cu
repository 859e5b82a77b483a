// Functions of one element, map_NAME for each; `c` is the constant of those that have one.

__device__ float normal_density(float x) {
    return 0.3989422804014327f * expf(-0.5f * x * x);
}

#define MAP(NAME, VALUE)                                                                              \
    extern "C" __global__ void map_##NAME(float* out, const float* in, float c, unsigned len) {       \
        unsigned i = element();                                                                       \
        if (i >= len) return;                                                                         \
        float x = in[i];                                                                              \
        out[i] = VALUE;                                                                               \
    }

MAP(scale, c * x)
MAP(shift, c + x)
// a NaN stays one, so that it shows
MAP(at_most, x >= c ? c : x)
MAP(below, x < c ? 1.0f : 0.0f)
MAP(exp, expf(x))
MAP(ln, logf(x))
MAP(sqrt, sqrtf(x))
MAP(sigmoid, 1.0f / (1.0f + expf(-x)))
MAP(relu, x <= 0.0f ? 0.0f : x)
MAP(positive, x > 0.0f ? 1.0f : 0.0f)
MAP(gelu, x * normcdff(x))
MAP(gelu_slope, normcdff(x) + x * normal_density(x))
MAP(normal_density, normal_density(x))

// NAME_back for some: what was before, or zero, and grad times the derivative.
#define MAP_BACK(NAME, SLOPE)                                                                         \
    extern "C" __global__ void NAME##_back(                                                           \
        float* out, const float* in, const float* grad, const float* before, unsigned len) {          \
        unsigned i = element();                                                                       \
        if (i >= len) return;                                                                         \
        float x = in[i], sum = before ? before[i] : 0.0f;                                             \
        out[i] = sum + grad[i] * (SLOPE);                                                             \
    }

MAP_BACK(gelu, normcdff(x) + x * normal_density(x))
MAP_BACK(gelu_slope, normal_density(x) * (2.0f - x * x))
