// Linear layers: what their products start from, and what they are made of.

// `len` elements, a row of `width` over and over.
extern "C" __global__ void repeat_row(float* out, const float* row, unsigned width, unsigned len) {
    unsigned i = element();
    if (i < len) out[i] = row[i % width];
}

// Parts of `len` elements each, one after the other; blockIdx.y is the part.
extern "C" __global__ void join(float* out, Parts parts, unsigned len) {
    const float* part = parts.at[blockIdx.y];
    out += (size_t)blockIdx.y * len;
    unsigned i = element();
    if (len % 4 == 0 && (size_t)out % 16 == 0) {
        Run<4> run;
        if (4 * i < len) get(run, part + 4 * i), put(out + 4 * i, run);
        return;
    }
    for (unsigned at = 4 * i; at < min(4 * i + 4, len); ++at) out[at] = part[at];
}
