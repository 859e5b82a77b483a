// Steps of sequences.

// Up to 64 parts [batch, width], each with its step.
struct StepParts {
    const float* at[64];
    unsigned step[64];
};

// A sequence [batch, steps, width] of zeros, or, if `more`, what is there, and parts added at their steps.
extern "C" __global__ void place_steps(
    float* out, StepParts parts, unsigned count, unsigned steps, unsigned width, unsigned len, unsigned more) {
    unsigned i = element();
    if (i >= len) return;
    unsigned row = i / width, step = row % steps;
    unsigned from = row / steps * width + i % width;
    float sum = more ? out[i] : 0.0f;
    for (unsigned part = 0; part < count; ++part) {
        if (parts.step[part] == step) sum += parts.at[part][from];
    }
    out[i] = sum;
}

// Steps [batch, width] of a sequence [batch, steps, width], from `first` on; blockIdx.y is the part.
extern "C" __global__ void split_steps(
    Parts parts, const float* x, unsigned first, unsigned steps, unsigned width, unsigned len) {
    unsigned i = element();
    if (i >= len) return;
    float* part = (float*)parts.at[blockIdx.y];
    part[i] = x[((size_t)(i / width) * steps + first + blockIdx.y) * width + i % width];
}
