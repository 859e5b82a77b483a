// Functions of two elements, zip_NAME for each, the operands broadcast by their strides.

#define ZIP(NAME, VALUE)                                                                              \
    extern "C" __global__ void zip_##NAME(                                                            \
        float* out, const float* a, const float* b, Strided<2> walk, unsigned len) {                  \
        unsigned i = element();                                                                       \
        if (i >= len) return;                                                                         \
        unsigned at[2];                                                                               \
        locate(walk, i, at);                                                                          \
        float x = a[at[0]], y = b[at[1]];                                                             \
        out[i] = VALUE;                                                                               \
    }

ZIP(add, x + y)
ZIP(sub, x - y)
ZIP(mul, x * y)
ZIP(div, x / y)

extern "C" __global__ void add_assign(float* sum, const float* x, unsigned len) {
    unsigned i = element();
    if (i < len) sum[i] += x[i];
}

// sum = first + the parts, one after the other; first may be sum.
extern "C" __global__ void add_all(float* sum, const float* first, Parts parts, unsigned count, unsigned len) {
    unsigned i = element();
    if (i >= len) return;
    float total = first[i];
    for (unsigned n = 0; n < count; ++n) total += parts.at[n][i];
    sum[i] = total;
}
