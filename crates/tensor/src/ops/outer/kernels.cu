// F' = (1 - eta) F + eta alpha (p outer q), an element a thread; `fast` is null for F = 0.

extern "C" __global__ void decay_outer(
    float* out, const float* fast, const float* eta, const float* alpha, const float* p, const float* q,
    unsigned units, unsigned inputs, unsigned len) {
    unsigned i = element();
    if (i >= len) return;
    unsigned row = i / inputs, input = i % inputs;
    unsigned episode = row / units, unit = row % units;
    float rate = eta[episode];
    float grown = rate * p[row] * (alpha[unit * inputs + input] * q[episode * inputs + input]);
    out[i] = fast ? (1.0f - rate) * fast[i] + grown : grown;
}
