// A block of 3x3 convolution, batch normalisation, ReLU and 2x2 max-pooling, of channels-last images. The convolution is
// a matrix product with the patches under the kernel; what is before and after it is here. Sums are made in an order that
// only the sizes decide.

struct BlockImage {
    unsigned height, width, channels;
};

// The patches of the images from `first` on, a row a pixel, [pixels, row], each row the channels of the kernel's nine
// places one after the other and zeros up to its length. A thread an element.
extern "C" __global__ void block_patches(
    float* patches, const float* x, BlockImage image, unsigned row, unsigned first, unsigned len) {
    unsigned i = element();
    if (i >= len) return;
    unsigned pixel = i / row, at = i % row;
    unsigned place = at / image.channels, channel = at % image.channels;
    unsigned area = image.height * image.width, number = first + pixel / area;
    pixel %= area;
    int r = (int)(pixel / image.width) + (int)(place / 3) - 1, c = (int)(pixel % image.width) + (int)(place % 3) - 1;
    bool inside = place < 9 && r >= 0 && r < (int)image.height && c >= 0 && c < (int)image.width;
    patches[i] = inside ? x[(number * area + r * image.width + c) * image.channels + channel] : 0.0f;
}

// The same for a multiple of 4 channels, whose rows have nothing behind the places. A thread 4 elements; `len` counts these.
extern "C" __global__ void block_patches_by_4(
    float4* patches, const float4* x, BlockImage image, unsigned first, unsigned len) {
    unsigned i = element();
    if (i >= len) return;
    unsigned quads = image.channels / 4, area = image.height * image.width;
    unsigned quad = i % quads, place = i / quads % 9, pixel = i / quads / 9;
    unsigned number = first + pixel / area;
    pixel %= area;
    int r = (int)(pixel / image.width) + (int)(place / 3) - 1, c = (int)(pixel % image.width) + (int)(place % 3) - 1;
    bool inside = r >= 0 && r < (int)image.height && c >= 0 && c < (int)image.width;
    patches[i] =
        inside ? x[(number * area + r * image.width + c) * quads + quad] : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
}

// A weight [outputs, inputs, 3, 3] as the matrix that patches are multiplied with: [row, outputs], or for the way back,
// where the patches are the result's and the kernel is turned round, [row, inputs]. A thread an element.
extern "C" __global__ void block_kernel_rows(
    float* rows, const float* weight, unsigned inputs, unsigned outputs, unsigned back, unsigned len) {
    unsigned i = element();
    if (i >= len) return;
    unsigned columns = back ? inputs : outputs, channels = back ? outputs : inputs;
    unsigned place = i / columns / channels, channel = i / columns % channels, column = i % columns;
    unsigned out = back ? channel : column, in = back ? column : channel;
    rows[i] = place < 9 ? weight[(out * inputs + in) * 9 + (back ? 8 - place : place)] : 0.0f;
}

// The other way: the weight's gradient from that of its rows [row, outputs]. A thread an element of the weight.
extern "C" __global__ void block_kernel_of_rows(
    float* weight, const float* rows, unsigned inputs, unsigned outputs, unsigned len) {
    unsigned i = element();
    if (i >= len) return;
    unsigned place = i % 9, in = i / 9 % inputs, out = i / 9 / inputs;
    weight[i] = rows[(place * inputs + in) * outputs + out];
}

// Below, blocks of 32 x 8 threads work on 32 channels of an image, a block after the other on all of it.

// The sum of a channel's 8 threads' values; all of a block call it, and all get it.
__device__ float sum_of_rows_of_threads(float value) {
    __shared__ float values[8][32];
    __syncthreads();
    values[threadIdx.y][threadIdx.x] = value;
    __syncthreads();
    float sum = values[0][threadIdx.x];
#pragma unroll
    for (unsigned y = 1; y < 8; ++y) sum += values[y][threadIdx.x];
    return sum;
}

// Of each image, the mean of every channel and the sum of squared distances from it: [images, 2, channels].
extern "C" __global__ void block_moments(float* moments, const float* y, unsigned pixels, unsigned channels) {
    unsigned tiles = (channels + 31) / 32, image = blockIdx.x / tiles;
    unsigned channel = blockIdx.x % tiles * 32 + threadIdx.x;
    bool there = channel < channels;
    y += image * pixels * channels + channel;
    float sum = 0.0f;
    if (there) {
#pragma unroll 8
        for (unsigned p = threadIdx.y; p < pixels; p += 8) sum += y[p * channels];
    }
    float mean = sum_of_rows_of_threads(sum) / pixels, squares = 0.0f;
    if (there) {
#pragma unroll 8
        for (unsigned p = threadIdx.y; p < pixels; p += 8) {
            float off = y[p * channels] - mean;
            squares = fmaf(off, off, squares);
        }
    }
    squares = sum_of_rows_of_threads(squares);
    if (there && threadIdx.y == 0) {
        moments[2 * image * channels + channel] = mean;
        moments[(2 * image + 1) * channels + channel] = squares;
    }
}

// From those, each group's mean and population variance, [groups, channels]. `starts` has where each group of images
// begins, and the end. A thread a channel of a group.
extern "C" __global__ void block_statistics(
    float* mean, float* variance, const float* moments, const unsigned* starts, unsigned pixels, unsigned channels,
    unsigned len) {
    unsigned i = element();
    if (i >= len) return;
    unsigned group = i / channels, channel = i % channels, first = starts[group], end = starts[group + 1];
    float sum = 0.0f, squares = 0.0f;
#pragma unroll 4
    for (unsigned n = first; n < end; ++n) sum += moments[2 * n * channels + channel];
    float m = sum / (end - first);
#pragma unroll 4
    for (unsigned n = first; n < end; ++n) {
        float off = moments[2 * n * channels + channel] - m;
        squares += moments[(2 * n + 1) * channels + channel] + pixels * off * off;
    }
    mean[i] = m;
    variance[i] = squares / (end - first) / pixels;
}

// What normalisation by them is: scale, shift and 1/sqrt(variance + eps), [groups, 3, channels]. A thread a channel of a
// group.
extern "C" __global__ void block_normals(
    float* normals, const float* mean, const float* variance, const float* gamma, const float* beta, float eps,
    unsigned channels, unsigned len) {
    unsigned i = element();
    if (i >= len) return;
    unsigned group = i / channels, channel = i % channels;
    float r = 1.0f / sqrtf(variance[i] + eps), scale = r * gamma[channel];
    normals += 3 * group * channels + channel;
    normals[0] = scale;
    normals[channels] = beta[channel] - mean[i] * scale;
    normals[2 * channels] = r;
}

// A window's element: what it is to be compared by, and what it was.
struct Seen {
    float z, y;
};

// The larger one, the first of equals, a NaN being larger than anything.
__device__ Seen larger(Seen a, Seen b) {
    return b.z > a.z || isnan(b.z) ? b : a;
}

// max(y scale + shift, 0) of each window's largest, and if they are kept the y that it comes from. Groups of images have
// scales and shifts of their own, `apart` from each other's; all have the same if that is 0. A thread an element of the
// result.
extern "C" __global__ void block_pool(
    float* pooled, float* peaks, const float* y, const float* scales, const float* shifts, const unsigned* group_of,
    BlockImage image, unsigned apart, unsigned keep, unsigned len) {
    unsigned i = element();
    if (i >= len) return;
    unsigned channels = image.channels, channel = i % channels, at = i / channels;
    unsigned col = at % (image.width / 2), row = at / (image.width / 2) % (image.height / 2);
    unsigned number = at / (image.width / 2) / (image.height / 2);
    unsigned by = channel + (apart > 0 ? group_of[number] * apart : 0);
    float scale = scales[by], shift = shifts[by];
    y += ((number * image.height + 2 * row) * image.width + 2 * col) * channels + channel;
    unsigned below = image.width * channels;
    float a = y[0], b = y[channels], c = y[below], d = y[below + channels];
    Seen upper = larger({fmaf(a, scale, shift), a}, {fmaf(b, scale, shift), b});
    Seen lower = larger({fmaf(c, scale, shift), c}, {fmaf(d, scale, shift), d});
    Seen found = larger(upper, lower);
    pooled[i] = found.z <= 0.0f ? 0.0f : found.z;
    if (keep) peaks[i] = found.y;
}

// Of each image and channel the sum of g, and of g times the normalised: [images, 2, channels]; g is the gradient of the
// normalised and shifted, which is that of the result where the peak is alive.
extern "C" __global__ void block_sums(
    float* sums, const float* peaks, const float* grad, const float* mean, const float* normals,
    const unsigned* group_of, unsigned pixels, unsigned channels) {
    unsigned tiles = (channels + 31) / 32, image = blockIdx.x / tiles;
    unsigned channel = blockIdx.x % tiles * 32 + threadIdx.x, group = group_of[image];
    bool there = channel < channels;
    float sum = 0.0f, along = 0.0f;
    if (there) {
        normals += 3 * group * channels + channel;
        float scale = normals[0], shift = normals[channels], r = normals[2 * channels];
        float m = mean[group * channels + channel];
        unsigned first = image * pixels * channels + channel;
#pragma unroll 4
        for (unsigned p = threadIdx.y; p < pixels; p += 8) {
            float peak = peaks[first + p * channels];
            float g = fmaf(peak, scale, shift) > 0.0f ? grad[first + p * channels] : 0.0f;
            sum += g;
            along = fmaf(g, (peak - m) * r, along);
        }
    }
    sum = sum_of_rows_of_threads(sum);
    along = sum_of_rows_of_threads(along);
    if (there && threadIdx.y == 0) {
        sums[2 * image * channels + channel] = sum;
        sums[(2 * image + 1) * channels + channel] = along;
    }
}

// From those, each group's sums, and the way back through batch normalisation, dy = scale g + slope y + offset: both
// [groups, 2, channels]. `pixels` are those of an image of y. A thread a channel of a group.
extern "C" __global__ void block_slopes(
    float* totals, float* slopes, const float* sums, const unsigned* starts, const float* mean, const float* normals,
    unsigned pixels, unsigned channels, unsigned len) {
    unsigned i = element();
    if (i >= len) return;
    unsigned group = i / channels, channel = i % channels, first = starts[group], end = starts[group + 1];
    float sum = 0.0f, along = 0.0f;
#pragma unroll 4
    for (unsigned n = first; n < end; ++n) {
        sum += sums[2 * n * channels + channel];
        along += sums[(2 * n + 1) * channels + channel];
    }
    float scale = normals[3 * group * channels + channel], r = normals[(3 * group + 2) * channels + channel];
    float one_by = 1.0f / ((float)(end - first) * pixels), slope = -scale * r * along * one_by;
    unsigned at = 2 * group * channels + channel;
    slopes[at] = slope;
    slopes[at + channels] = -scale * sum * one_by - slope * mean[i];
    totals[at] = sum;
    totals[at + channels] = along;
}

// The gradients by the shift and the scale of batch normalisation: the groups' sums added up in order. A thread a channel.
extern "C" __global__ void block_totals(
    float* gamma, float* beta, const float* totals, unsigned groups, unsigned channels) {
    unsigned channel = element();
    if (channel >= channels) return;
    float sum = 0.0f, along = 0.0f;
    for (unsigned group = 0; group < groups; ++group) {
        sum += totals[2 * group * channels + channel];
        along += totals[(2 * group + 1) * channels + channel];
    }
    beta[channel] = sum;
    gamma[channel] = along;
}

// The gradient of the convolution's result: scale g + slope y + offset, g being the result's gradient at each window's
// largest if that is alive, and 0 elsewhere. A thread a window, those that the edge cuts off included.
extern "C" __global__ void block_unpool(
    float* dy, const float* y, const float* grad, const float* normals, const float* slopes, const unsigned* group_of,
    BlockImage image, unsigned len) {
    unsigned i = element();
    if (i >= len) return;
    unsigned channels = image.channels, channel = i % channels, at = i / channels;
    unsigned across = (image.width + 1) / 2, down = (image.height + 1) / 2;
    unsigned col = at % across, row = at / across % down, number = at / across / down, group = group_of[number];
    float scale = normals[3 * group * channels + channel], shift = normals[(3 * group + 1) * channels + channel];
    float slope = slopes[2 * group * channels + channel], offset = slopes[(2 * group + 1) * channels + channel];
    bool wide = 2 * col + 1 < image.width, high = 2 * row + 1 < image.height;
    unsigned place = ((number * image.height + 2 * row) * image.width + 2 * col) * channels + channel;
    unsigned right = channels, below = image.width * channels;
    float a = y[place];
    float b = wide ? y[place + right] : 0.0f, c = high ? y[place + below] : 0.0f;
    float d = wide && high ? y[place + below + right] : 0.0f;
    float g = 0.0f;
    bool is_right = false, is_below = false;
    if (wide && high) {
        float za = fmaf(a, scale, shift), zb = fmaf(b, scale, shift);
        float zc = fmaf(c, scale, shift), zd = fmaf(d, scale, shift);
        float upper = zb > za ? zb : za, lower = zd > zc ? zd : zc;
        is_below = lower > upper;
        is_right = is_below ? zd > zc : zb > za;
        if ((is_below ? lower : upper) > 0.0f) {
            unsigned of = (number * (image.height / 2) + row) * (image.width / 2) + col;
            g = scale * grad[of * channels + channel];
        }
    }
    dy[place] = fmaf(a, slope, offset) + (!is_below && !is_right ? g : 0.0f);
    if (wide) dy[place + right] = fmaf(b, slope, offset) + (!is_below && is_right ? g : 0.0f);
    if (high) dy[place + below] = fmaf(c, slope, offset) + (is_below && !is_right ? g : 0.0f);
    if (wide && high) dy[place + below + right] = fmaf(d, slope, offset) + (is_below && is_right ? g : 0.0f);
}
