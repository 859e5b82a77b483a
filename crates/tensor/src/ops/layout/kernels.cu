// Moving elements.

extern "C" __global__ void copy_strided(float* out, const float* x, Strided<1> walk, unsigned len) {
    unsigned i = element();
    if (i >= len) return;
    unsigned at[1];
    locate(walk, i, at);
    out[i] = x[at[0]];
}

// Runs of `len` elements from `x_start` on in every `x_stride`, to `out_start` on in every `out_stride`.
extern "C" __global__ void copy_runs(
    float* out, unsigned out_stride, unsigned out_start, const float* x, unsigned x_stride, unsigned x_start,
    unsigned len, unsigned total) {
    unsigned i = element();
    if (i >= total) return;
    unsigned run = i / len, along = i % len;
    out[run * out_stride + out_start + along] = x[run * x_stride + x_start + along];
}

// Parts, each of runs of `len`, `total` in all, the parts' runs side by side from `start` on in every `stride`; blockIdx.y is the part.
extern "C" __global__ void join_runs(
    float* out, Parts parts, unsigned stride, unsigned start, unsigned len, unsigned total) {
    unsigned i = element();
    if (i >= total) return;
    out[i / len * stride + start + blockIdx.y * len + i % len] = parts.at[blockIdx.y][i];
}

// Runs of `stride` elements of what was before, or zeros, with the next `len` elements of x added from `start` on.
extern "C" __global__ void pad(
    float* out, const float* x, const float* before, unsigned stride, unsigned start, unsigned len, unsigned total) {
    unsigned i = element();
    if (i >= total) return;
    unsigned along = i % stride;
    bool inside = along >= start && along - start < len;
    float value = inside ? x[i / stride * len + along - start] : 0.0f;
    out[i] = before ? before[i] + value : value;
}

// Runs of `stride`, in which the `first` elements from `start` on and the `second` ones after them change places.
extern "C" __global__ void swap_runs(
    float* out, const float* x, unsigned stride, unsigned start, unsigned first, unsigned second, unsigned total) {
    unsigned i = element();
    if (i >= total) return;
    unsigned along = i % stride, from = i;
    if (along >= start && along < start + second) {
        from = i + first;
    } else if (along >= start + second && along < start + first + second) {
        from = i - second;
    }
    out[i] = x[from];
}
