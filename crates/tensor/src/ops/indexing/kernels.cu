// Picking runs of elements, and putting them back.

extern "C" __global__ void take(
    float* out, const float* x, const unsigned* indices, unsigned run, unsigned len) {
    unsigned i = element();
    if (i < len) out[i] = x[indices[i / run] * run + i % run];
}

// The opposite, for indices of which no two are equal.
extern "C" __global__ void put_apart(
    float* out, const float* x, const unsigned* indices, unsigned run, unsigned len) {
    unsigned i = element();
    if (i < len) out[indices[i / run] * run + i % run] = x[i];
}

// The opposite, for indices that may be equal. Run `targets[t]` of the output is the sum, in order, of the
// runs of x numbered `sources[starts[t]]` to before `sources[starts[t + 1]]`.
extern "C" __global__ void put_sums(
    float* out, const float* x, const unsigned* targets, const unsigned* starts, const unsigned* sources,
    unsigned run, unsigned len) {
    unsigned i = element();
    if (i >= len) return;
    unsigned target = i / run, along = i % run;
    float sum = 0.0f;
    for (unsigned s = starts[target]; s < starts[target + 1]; ++s) sum += x[sources[s] * run + along];
    out[targets[target] * run + along] = sum;
}
