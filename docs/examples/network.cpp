#include "network.hpp"

#include <cblas.h>

#include <algorithm>
#include <cmath>
#include <halfulp/error.hpp>
#include <halfulp/image_features.hpp>
#include <halfulp/random.hpp>
#include <halfulp/threads.hpp>
#include <memory>
#include <numbers>
#include <numeric>
#include <string>

namespace example {
namespace {

using Size = std::ptrdiff_t;

constexpr Size block_images = 64;

std::size_t at(Size i) { return static_cast<std::size_t>(i); }

/// One thread for BLAS, whose results depend on how many it has. Setting that sets OpenMP's default
/// as well, so that a network asks for its threads before.
class OneBlasThread {
 public:
  OneBlasThread() : before_(openblas_get_num_threads()) { openblas_set_num_threads(1); }
  ~OneBlasThread() { openblas_set_num_threads(before_); }
  OneBlasThread(const OneBlasThread&) = delete;
  OneBlasThread& operator=(const OneBlasThread&) = delete;

 private:
  int before_;
};

/// c = a b + keep c, row-major, a and b as they are or transposed; inner products of `inner`.
void multiply(bool transpose_a, bool transpose_b, Size rows, Size columns, Size inner,
              const float* a, Size lda, const float* b, Size ldb, float keep, float* c, Size ldc) {
  cblas_sgemm(CblasRowMajor, transpose_a ? CblasTrans : CblasNoTrans,
              transpose_b ? CblasTrans : CblasNoTrans, static_cast<int>(rows),
              static_cast<int>(columns), static_cast<int>(inner), 1, a, static_cast<int>(lda), b,
              static_cast<int>(ldb), keep, c, static_cast<int>(ldc));
}
void multiply(bool transpose_a, bool transpose_b, Size rows, Size columns, Size inner,
              const double* a, Size lda, const double* b, Size ldb, double keep, double* c,
              Size ldc) {
  cblas_dgemm(CblasRowMajor, transpose_a ? CblasTrans : CblasNoTrans,
              transpose_b ? CblasTrans : CblasNoTrans, static_cast<int>(rows),
              static_cast<int>(columns), static_cast<int>(inner), 1, a, static_cast<int>(lda), b,
              static_cast<int>(ldb), keep, c, static_cast<int>(ldc));
}

}  // namespace

// ---- images -------------------------------------------------------------------------------------

template <class T>
Images<T> Images<T>::part(std::ptrdiff_t first, std::ptrdiff_t count) const {
  const Size each = pixels_each();
  Images out{rows, columns, {}, {}};
  out.pixels.assign(pixels.begin() + first * each, pixels.begin() + (first + count) * each);
  out.labels.assign(labels.begin() + first, labels.begin() + first + count);
  return out;
}

Images<float> read_images(const std::filesystem::path& images,
                          const std::filesystem::path& labels) {
  const halfulp::IdxArray bytes = halfulp::read_idx(images);
  halfulp::IdxArray classes = halfulp::read_idx(labels);
  if (bytes.shape.size() != 3) throw halfulp::IoError(images.string(), "must be of rank 3");
  if (classes.shape.size() != 1 || classes.shape[0] != bytes.shape[0])
    throw halfulp::IoError(labels.string(), "must have one label an image");
  for (const std::uint8_t label : classes.values)
    if (label > 9)
      throw halfulp::IoError(labels.string(), "label " + std::to_string(label) + ", must be <= 9");
  Images<float> out{bytes.shape[1], bytes.shape[2], {}, std::move(classes.values)};
  out.pixels.resize(bytes.values.size());
  // mean and deviation of the pixels of Fashion-MNIST's training images
  for (std::size_t i = 0; i < bytes.values.size(); ++i)
    out.pixels[i] = (static_cast<float>(bytes.values[i]) / 255 - 0.286F) / 0.353F;
  return out;
}

Images<float> synthetic_images(Size n, std::uint64_t seed, std::uint64_t first) {
  constexpr Size side = 28, waves = 4;
  constexpr std::uint64_t classes = 10, numbers = 6, reserved = 1000;
  const halfulp::RandomStream patterns(seed, 0), choice(seed, 1), noise(seed, 2);
  Images<float> out{side, side, std::vector<float>(at(n * side * side)),
                    std::vector<std::uint8_t>(at(n))};
  halfulp::parallel_for(n, 0, [&](Size i) {
    const std::uint64_t number = first + static_cast<std::uint64_t>(i);
    const std::uint64_t label = choice.below(numbers * number, classes);
    out.labels[at(i)] = static_cast<std::uint8_t>(label);
    const auto uniform = [&](std::uint64_t k) {
      return choice.uniform(numbers * number + k) - 0.5;
    };
    const double down = 4 * uniform(1), right = 4 * uniform(2), scale = 1 + uniform(3);
    for (Size r = 0; r < side; ++r)
      for (Size c = 0; c < side; ++c) {
        double value = 0;
        for (Size w = 0; w < waves; ++w) {
          // a wave of each class and number: two frequencies and a phase
          const auto key = reserved * label + 3 * static_cast<std::uint64_t>(w);
          value += std::cos(0.35 * (patterns.normal(key) * (static_cast<double>(r) + down) +
                                    patterns.normal(key + 1) * (static_cast<double>(c) + right)) +
                            2 * std::numbers::pi * patterns.uniform(key + 2));
        }
        const Size pixel = (i * side + r) * side + c;
        const std::uint64_t noise_index =
            (number * side + static_cast<std::uint64_t>(r)) * side + static_cast<std::uint64_t>(c);
        out.pixels[at(pixel)] =
            static_cast<float>(0.3 * scale * value + 1.5 * noise.normal(noise_index));
      }
  });
  return out;
}

// ---- the network --------------------------------------------------------------------------------

/// What a block of images leaves behind on its way through the layers.
template <class T>
struct Network<T>::Block {
  Size images = 0;
  std::vector<T> patches;             // kernel^2 numbers for each place of each image
  std::vector<T> response;            // of filters at each place, after ReLU
  std::vector<std::vector<T>> input;  // of each full layer, images x width
  std::vector<std::vector<T>> delta;  // derivative by each full layer's sums, images x width
  std::vector<T> response_delta;      // derivative by the filters' sums
  std::vector<double> loss;
  std::vector<std::uint8_t> label, found;
};

template <class T>
Network<T>::Network(Shape shape, int threads)
    : shape_(std::move(shape)), threads_(halfulp::thread_count(threads)) {
  const auto add = [&](Size rows, Size columns) {
    parts_.push_back({parameters_, rows, columns, false});
    parameters_ += rows * columns;
    parts_.push_back({parameters_, rows, 1, true});
    parameters_ += rows;
  };
  Size width = shape_.rows * shape_.columns;
  if (shape_.filters > 0) {
    high_ = shape_.rows - shape_.kernel + 1;
    wide_ = shape_.columns - shape_.kernel + 1;
    if (high_ < 2 || wide_ < 2 || high_ % 2 != 0 || wide_ % 2 != 0)
      throw halfulp::DomainError("example::Network", "shape.kernel",
                                 static_cast<double>(shape_.kernel),
                                 "such that the response has even sides");
    pooled_ = high_ * wide_ / 4;
    add(shape_.filters, shape_.kernel * shape_.kernel);
    width = shape_.filters * pooled_;
  }
  for (const Size outputs : shape_.hidden) {
    widths_.push_back(width);
    add(outputs, width);
    width = outputs;
  }
  widths_.push_back(width);
  add(shape_.classes, width);
  widths_.push_back(shape_.classes);
}

template <class T>
std::vector<T> Network<T>::initial(std::uint64_t seed) const {
  std::vector<T> weights(at(parameters_));
  const halfulp::RandomStream random(seed, 7);
  for (const Part& part : parts_) {
    if (part.bias) continue;
    const double deviation = std::sqrt(2 / static_cast<double>(part.columns));
    for (Size i = 0; i < part.rows * part.columns; ++i)
      weights[at(part.offset + i)] =
          static_cast<T>(deviation * random.normal(static_cast<std::uint64_t>(part.offset + i)));
  }
  return weights;
}

template <class T>
void Network<T>::forward(std::span<const T> weights, const Images<T>& images,
                         std::span<const Size> index, Block& block) const {
  const Size n = std::ssize(index), pixels = shape_.rows * shape_.columns;
  const Size layers = std::ssize(widths_) - 1;
  block.images = n;
  block.input.resize(at(layers + 1));
  for (Size l = 0; l <= layers; ++l) block.input[at(l)].resize(at(n * widths_[at(l)]));
  block.label.resize(at(n));
  for (Size i = 0; i < n; ++i) block.label[at(i)] = images.labels[at(index[at(i)])];
  std::size_t part = 0;
  if (shape_.filters == 0) {
    for (Size i = 0; i < n; ++i)
      std::copy_n(images.pixels.data() + index[at(i)] * pixels, pixels,
                  block.input[0].data() + i * pixels);
  } else {
    const Size kernel = shape_.kernel, taps = kernel * kernel, places = high_ * wide_;
    const T* const filters = weights.data() + parts_[0].offset;
    const T* const bias = weights.data() + parts_[1].offset;
    block.patches.resize(at(n * places * taps));
    block.response.resize(at(n * shape_.filters * places));
    for (Size i = 0; i < n; ++i) {
      const T* const image = images.pixels.data() + index[at(i)] * pixels;
      T* patch = block.patches.data() + i * places * taps;
      for (Size r = 0; r < high_; ++r)
        for (Size c = 0; c < wide_; ++c)
          for (Size k = 0; k < kernel; ++k, patch += kernel)
            std::copy_n(image + (r + k) * shape_.columns + c, kernel, patch);
      T* const response = block.response.data() + i * shape_.filters * places;
      multiply(false, true, shape_.filters, places, taps, filters, taps,
               block.patches.data() + i * places * taps, taps, 0, response, places);
      for (Size f = 0; f < shape_.filters; ++f) {
        T* const one = response + f * places;
        for (Size s = 0; s < places; ++s) one[s] = std::max(one[s] + bias[f], T{0});
        T* const out = block.input[0].data() + i * widths_[0] + f * pooled_;
        for (Size r = 0; r < high_ / 2; ++r)
          for (Size c = 0; c < wide_ / 2; ++c) {
            const T* const corner = one + 2 * r * wide_ + 2 * c;
            out[r * (wide_ / 2) + c] =
                (corner[0] + corner[1] + corner[wide_] + corner[wide_ + 1]) / 4;
          }
      }
    }
    part = 2;
  }
  for (Size l = 0; l < layers; ++l, part += 2) {
    const Size inputs = widths_[at(l)], outputs = widths_[at(l + 1)];
    T* const out = block.input[at(l + 1)].data();
    const T* const bias = weights.data() + parts_[part + 1].offset;
    for (Size i = 0; i < n; ++i) std::copy_n(bias, outputs, out + i * outputs);
    multiply(false, true, n, outputs, inputs, block.input[at(l)].data(), inputs,
             weights.data() + parts_[part].offset, inputs, 1, out, outputs);
    if (l + 1 < layers)
      for (Size i = 0; i < n * outputs; ++i) out[i] = std::max(out[i], T{0});
  }
  // Softmax: the outputs become probabilities.
  block.loss.resize(at(n));
  block.found.resize(at(n));
  for (Size i = 0; i < n; ++i) {
    T* const out = block.input[at(layers)].data() + i * shape_.classes;
    const Size best = std::max_element(out, out + shape_.classes) - out;
    const T largest = out[best], own = out[block.label[at(i)]];
    double sum = 0;
    for (Size c = 0; c < shape_.classes; ++c) {
      out[c] = std::exp(out[c] - largest);
      sum += static_cast<double>(out[c]);
    }
    for (Size c = 0; c < shape_.classes; ++c)
      out[c] = static_cast<T>(static_cast<double>(out[c]) / sum);
    block.loss[at(i)] = std::log(sum) - static_cast<double>(own - largest);
    block.found[at(i)] = static_cast<std::uint8_t>(best);
  }
}

template <class T>
void Network<T>::backward(std::span<const T> weights, Block& block) const {
  const Size n = block.images, layers = std::ssize(widths_) - 1;
  block.delta.resize(at(layers));
  std::vector<T>& last = block.delta[at(layers - 1)];
  last = block.input[at(layers)];
  for (Size i = 0; i < n; ++i) last[at(i * shape_.classes + block.label[at(i)])] -= 1;
  const auto back = [&](Size l, T* to) {  // by the inputs of layer l
    const std::size_t part = at(2 * l) + (shape_.filters > 0 ? 2 : 0);
    const Size inputs = widths_[at(l)], outputs = widths_[at(l + 1)];
    multiply(false, false, n, inputs, outputs, block.delta[at(l)].data(), outputs,
             weights.data() + parts_[part].offset, inputs, 0, to, inputs);
  };
  for (Size l = layers - 1; l > 0; --l) {
    block.delta[at(l - 1)].resize(at(n * widths_[at(l)]));
    T* const delta = block.delta[at(l - 1)].data();
    back(l, delta);
    for (Size i = 0; i < n * widths_[at(l)]; ++i)
      if (!(block.input[at(l)][at(i)] > 0)) delta[i] = 0;
  }
  if (shape_.filters == 0) return;
  std::vector<T> pooled(at(n * widths_[0]));
  back(0, pooled.data());
  const Size places = high_ * wide_;
  block.response_delta.resize(at(n * shape_.filters * places));
  for (Size k = 0; k < n * shape_.filters; ++k)
    for (Size r = 0; r < high_; ++r)
      for (Size c = 0; c < wide_; ++c) {
        const Size place = k * places + r * wide_ + c;
        block.response_delta[at(place)] =
            block.response[at(place)] > 0
                ? pooled[at(k * pooled_ + r / 2 * (wide_ / 2) + c / 2)] / 4
                : T{0};
      }
}

/// Adds the gradients of images [first, first + count) of the block to `out`.
template <class T>
void Network<T>::add_gradient(const Block& block, Size first, Size count, T* out) const {
  std::size_t part = 0;
  if (shape_.filters > 0) {
    const Size taps = shape_.kernel * shape_.kernel, places = high_ * wide_;
    for (Size i = first; i < first + count; ++i) {
      const T* const delta = block.response_delta.data() + i * shape_.filters * places;
      multiply(false, false, shape_.filters, taps, places, delta, places,
               block.patches.data() + i * places * taps, taps, 1, out + parts_[0].offset, taps);
      for (Size f = 0; f < shape_.filters; ++f) {
        double sum = 0;
        for (Size s = 0; s < places; ++s) sum += static_cast<double>(delta[f * places + s]);
        out[parts_[1].offset + f] += static_cast<T>(sum);
      }
    }
    part = 2;
  }
  for (Size l = 0; l + 1 < std::ssize(widths_); ++l, part += 2) {
    const Size inputs = widths_[at(l)], outputs = widths_[at(l + 1)];
    const T* const delta = block.delta[at(l)].data() + first * outputs;
    multiply(true, false, outputs, inputs, count, delta, outputs,
             block.input[at(l)].data() + first * inputs, inputs, 1, out + parts_[part].offset,
             inputs);
    for (Size i = 0; i < count; ++i)
      for (Size o = 0; o < outputs; ++o) out[parts_[part + 1].offset + o] += delta[i * outputs + o];
  }
}

template <class T>
T Network<T>::gradient(std::span<const T> weights, const Images<T>& images,
                       std::span<const Size> index, std::span<T> out) const {
  const OneBlasThread one;
  const Size n = std::ssize(index), blocks = (n + block_images - 1) / block_images;
  std::vector<T> partial(at(blocks * parameters_));
  std::vector<double> losses(at(blocks));
  halfulp::parallel_for(blocks, threads_, [&](Size b) {
    Block block;
    forward(weights, images,
            index.subspan(at(b * block_images), at(std::min(block_images, n - b * block_images))),
            block);
    backward(weights, block);
    add_gradient(block, 0, block.images, partial.data() + b * parameters_);
    losses[at(b)] = std::accumulate(block.loss.begin(), block.loss.end(), 0.0);
  });
  const T scale = T{1} / static_cast<T>(n);
  halfulp::parallel_blocks(parameters_, 8192, threads_, [&](Size begin, Size end) {
    for (Size j = begin; j < end; ++j) {
      T sum = partial[at(j)];
      for (Size b = 1; b < blocks; ++b) sum += partial[at(b * parameters_ + j)];
      out[at(j)] = scale * sum;
    }
  });
  return static_cast<T>(std::accumulate(losses.begin(), losses.end(), 0.0) /
                        static_cast<double>(n));
}

template <class T>
void Network<T>::sample_gradients(std::span<const T> weights, const Images<T>& images,
                                  std::span<const Size> index, std::span<T> out) const {
  const OneBlasThread one;
  const Size n = std::ssize(index), blocks = (n + block_images - 1) / block_images;
  halfulp::parallel_for(blocks, threads_, [&](Size b) {
    Block block;
    forward(weights, images,
            index.subspan(at(b * block_images), at(std::min(block_images, n - b * block_images))),
            block);
    backward(weights, block);
    for (Size i = 0; i < block.images; ++i) {
      T* const row = out.data() + (b * block_images + i) * parameters_;
      std::fill_n(row, parameters_, T{0});
      add_gradient(block, i, 1, row);
    }
  });
}

template <class T>
void Network<T>::evaluate(std::span<const T> weights, const Images<T>& images,
                          std::span<double> losses, std::span<std::uint8_t> classes) const {
  const OneBlasThread one;
  const Size n = images.size(), blocks = (n + block_images - 1) / block_images;
  std::vector<Size> index(at(n));
  std::iota(index.begin(), index.end(), Size{0});
  halfulp::parallel_for(blocks, threads_, [&](Size b) {
    Block block;
    const Size first = b * block_images;
    forward(weights, images,
            std::span<const Size>(index).subspan(at(first), at(std::min(block_images, n - first))),
            block);
    std::copy(block.loss.begin(), block.loss.end(), losses.begin() + first);
    std::copy(block.found.begin(), block.found.end(), classes.begin() + first);
  });
}

template <class T>
double Network<T>::accuracy(std::span<const T> weights, const Images<T>& images,
                            double* loss) const {
  std::vector<double> losses(at(images.size()));
  std::vector<std::uint8_t> classes(at(images.size()));
  evaluate(weights, images, losses, classes);
  const auto n = static_cast<double>(images.size());
  if (loss != nullptr) *loss = halfulp::tree_sum(losses) / n;
  Size right = 0;
  for (std::size_t i = 0; i < classes.size(); ++i) right += classes[i] == images.labels[i] ? 1 : 0;
  return static_cast<double>(right) / n;
}

template struct Images<float>;
template struct Images<double>;
template class Network<float>;
template class Network<double>;

// ---- training -----------------------------------------------------------------------------------

Step sgd(double momentum, double decay) {
  const auto velocity = std::make_shared<std::vector<float>>();
  return [=](std::span<const float> gradient, std::span<float> weights, double rate) {
    velocity->resize(weights.size(), 0.0F);
    for (std::size_t j = 0; j < weights.size(); ++j) {
      float& v = (*velocity)[j];
      v = static_cast<float>(momentum) * v + gradient[j] + static_cast<float>(decay) * weights[j];
      weights[j] -= static_cast<float>(rate) * v;
    }
  };
}

Step adam(double decay) {
  struct State {
    std::vector<float> first, second;
    int steps = 0;
  };
  const auto state = std::make_shared<State>();
  return [=](std::span<const float> gradient, std::span<float> weights, double rate) {
    constexpr double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;
    state->first.resize(weights.size(), 0.0F);
    state->second.resize(weights.size(), 0.0F);
    ++state->steps;
    const double unbias1 = 1 - std::pow(beta1, state->steps);
    const double unbias2 = 1 - std::pow(beta2, state->steps);
    const auto b1 = static_cast<float>(beta1), b2 = static_cast<float>(beta2);
    const auto scale = static_cast<float>(1 / std::sqrt(unbias2));
    const auto step = static_cast<float>(rate / unbias1);
    const auto shrink = static_cast<float>(1 - rate * decay);
    for (std::size_t j = 0; j < weights.size(); ++j) {
      float &m = state->first[j], &v = state->second[j];
      m = b1 * m + (1 - b1) * gradient[j];
      v = b2 * v + (1 - b2) * gradient[j] * gradient[j];
      weights[j] =
          shrink * weights[j] - step * m / (std::sqrt(v) * scale + static_cast<float>(epsilon));
    }
  };
}

std::vector<Size> shuffled(Size n, std::uint64_t seed, std::uint32_t stream) {
  std::vector<Size> order(at(n));
  std::iota(order.begin(), order.end(), Size{0});
  const halfulp::RandomStream random(seed, stream);
  for (Size i = n - 1; i > 0; --i) {
    const auto other =
        random.below(static_cast<std::uint64_t>(i), static_cast<std::uint64_t>(i + 1));
    std::swap(order[at(i)], order[other]);
  }
  return order;
}

void train(const Network<float>& network, const Images<float>& images, std::vector<float>& weights,
           const Step& step, const Training& training) {
  constexpr std::uint32_t orders = 100;  // streams from here on: one an epoch
  const Size batches = images.size() / training.batch, total = batches * training.epochs;
  std::vector<float> gradient(weights.size());
  const auto apply_mask = [&] {
    for (std::size_t j = 0; j < training.mask.size(); ++j)
      if (training.mask[j] == 0) weights[j] = 0;
  };
  apply_mask();
  Size done = 0;
  for (int epoch = 1; epoch <= training.epochs; ++epoch) {
    const auto order =
        shuffled(images.size(), training.seed, orders + static_cast<std::uint32_t>(epoch));
    double loss = 0;
    for (Size b = 0; b < batches; ++b, ++done) {
      const auto index =
          std::span<const Size>(order).subspan(at(b * training.batch), at(training.batch));
      loss += static_cast<double>(network.gradient(weights, images, index, gradient)) /
              static_cast<double>(batches);
      const double along = static_cast<double>(done) / static_cast<double>(total);
      step(gradient, weights, training.rate * 0.5 * (1 + std::cos(std::numbers::pi * along)));
      apply_mask();
    }
    if (training.after_epoch) training.after_epoch(epoch, weights, loss);
  }
}

}  // namespace example
