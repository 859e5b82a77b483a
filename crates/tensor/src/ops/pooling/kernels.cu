// Whether b is larger than a, a NaN being larger than any number.
__device__ bool is_larger(float b, float a) {
    return b > a || (b != b && a == a);
}

// Where the largest of each 2 x 2 window lies, the first of equals.
extern "C" __global__ void largest_of_windows(
    unsigned* out, const float* x, unsigned height, unsigned width, unsigned len) {
    unsigned i = element();
    if (i >= len) return;
    unsigned across = width / 2, down = height / 2;
    unsigned plane = i / across / down, top = i / across % down * 2, left = i % across * 2;
    unsigned upper = (plane * height + top) * width + left, lower = upper + width;
    upper += is_larger(x[upper + 1], x[upper]);
    lower += is_larger(x[lower + 1], x[lower]);
    out[i] = is_larger(x[lower], x[upper]) ? lower : upper;
}
