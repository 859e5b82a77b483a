// What the kernels share. They are compiled as one source, this file first. Sizes and indices have 32 bits:
// no buffer has 2^31 elements.

// The element that this thread computes.
__device__ unsigned element() {
    return blockIdx.x * blockDim.x + threadIdx.x;
}

// Several threads work on a group of elements together: a row of a softmax, the terms of a sum. A block
// has `blockDim.y` such groups of `blockDim.x` threads, a power of two; one group only if that is above 32.

// The group that this thread works on.
__device__ unsigned group() {
    return blockIdx.x * blockDim.y + threadIdx.y;
}

struct Sum {
    template <class T> __device__ T operator()(T a, T b) const { return a + b; }
};

struct Largest {
    __device__ float operator()(float a, float b) const { return fmaxf(a, b); }
};

// Combines one value of each of the group's threads, in an order that only the group's size decides; every
// thread gets the result. All threads of a group call it.
template <class F, class T> __device__ T combine(T value, F f) {
    for (unsigned apart = min(blockDim.x, 32u) / 2; apart > 0; apart /= 2) {
        value = f(value, __shfl_xor_sync(0xffffffffu, value, apart));
    }
    if (blockDim.x <= 32) return value;
    __shared__ T warps[32];
    // an earlier call's values may still be read
    __syncthreads();
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = value;
    __syncthreads();
    value = warps[0];
    for (unsigned warp = 1; warp < blockDim.x / 32; ++warp) value = f(value, warps[warp]);
    return value;
}

// How N operands are walked along an output of `rank` axes, outermost first.
template <unsigned N> struct Strided {
    unsigned rank;
    unsigned lens[5];
    unsigned strides[N][5];
};

// Where each operand's element for element `i` of the output lies.
template <unsigned N> __device__ void locate(const Strided<N>& walk, unsigned i, unsigned (&at)[N]) {
    for (unsigned n = 0; n < N; ++n) at[n] = 0;
#pragma unroll
    for (unsigned axis = 4; axis > 0; --axis) {
        if (axis < walk.rank) {
            unsigned along = i % walk.lens[axis];
            i /= walk.lens[axis];
            for (unsigned n = 0; n < N; ++n) at[n] += along * walk.strides[n][axis];
        }
    }
    for (unsigned n = 0; n < N; ++n) at[n] += i * walk.strides[n][0];
}

// Several buffers by their addresses, for kernels over all of them.
struct Parts {
    const float* at[64];
};

// The sum of a value over a warp, all of whose threads call it; every one gets it.
__device__ float warp_sum(float value) {
#pragma unroll
    for (unsigned apart = 16; apart > 0; apart /= 2) value += __shfl_xor_sync(0xffffffffu, value, apart);
    return value;
}

// N neighbours, one or four of which are moved at once.
template <unsigned N> struct Run {
    float x[N];
};

__device__ void get(Run<1>& run, const float* from) { run.x[0] = *from; }
__device__ void get(Run<4>& run, const float* from) {
    float4 v = *(const float4*)from;
    run.x[0] = v.x, run.x[1] = v.y, run.x[2] = v.z, run.x[3] = v.w;
}
// What is read once: it leaves the nearest cache to what is read again.
__device__ void get_once(Run<1>& run, const float* from) { run.x[0] = *from; }
__device__ void get_once(Run<4>& run, const float* from) {
    asm volatile("ld.global.L1::no_allocate.v4.f32 {%0, %1, %2, %3}, [%4];"
                 : "=f"(run.x[0]), "=f"(run.x[1]), "=f"(run.x[2]), "=f"(run.x[3])
                 : "l"(from));
}
__device__ void put(float* to, const Run<1>& run) { *to = run.x[0]; }
__device__ void put(float* to, const Run<4>& run) {
    *(float4*)to = make_float4(run.x[0], run.x[1], run.x[2], run.x[3]);
}

extern "C" __global__ void fill(float* out, float value, unsigned len) {
    unsigned i = element();
    if (i < len) out[i] = value;
}
