#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <vector>

/// A small classifier with its own back-propagation: the client of halfulp::mfac in the examples.
/// It is no part of the library.
namespace example {

/// n images of rows x columns brightnesses, about mean 0 and deviation 1, and their classes.
template <class T>
struct Images {
  std::ptrdiff_t rows = 0, columns = 0;
  std::vector<T> pixels;
  std::vector<std::uint8_t> labels;

  [[nodiscard]] std::ptrdiff_t size() const { return std::ssize(labels); }
  [[nodiscard]] std::ptrdiff_t pixels_each() const { return rows * columns; }
  /// Images [first, first + count).
  [[nodiscard]] Images part(std::ptrdiff_t first, std::ptrdiff_t count) const;
};

/// Two IDX files, as Fashion-MNIST has them.
/// @throws  halfulp::IoError
[[nodiscard]] Images<float> read_images(const std::filesystem::path& images,
                                        const std::filesystem::path& labels);
/// Ten classes of smooth patterns, each image one of them, shifted, scaled and with noise: for
/// tests, where there are no data. Images `first`, `first` + 1, ... of the endless set of a seed.
[[nodiscard]] Images<float> synthetic_images(std::ptrdiff_t n, std::uint64_t seed,
                                             std::uint64_t first = 0);

/// What a network is: perhaps a convolution with `filters` of kernel x kernel, ReLU and means of
/// 2 x 2; then fully connected layers with ReLU between them; then softmax.
struct Shape {
  std::ptrdiff_t rows = 28, columns = 28;
  std::ptrdiff_t filters = 0;  ///< 0: no convolution
  std::ptrdiff_t kernel = 5;
  std::vector<std::ptrdiff_t> hidden = {40, 20};
  std::ptrdiff_t classes = 10;
};

/// One array of parameters: `rows` x `columns`, row after row; `columns` = 1 for biases.
struct Part {
  std::ptrdiff_t offset, rows, columns;
  bool bias;
};

/// The functions of the parameters that training and pruning ask for. Parameters are held by the
/// caller, as one array.
///
/// All sums have a fixed order: images are taken in blocks of 64, BLAS gets one block on one
/// thread, and the blocks' results are added from first to last. T is float or double.
template <class T>
class Network {
 public:
  explicit Network(Shape shape, int threads = 0);

  [[nodiscard]] std::ptrdiff_t parameters() const { return parameters_; }
  [[nodiscard]] const std::vector<Part>& parts() const { return parts_; }
  /// Normal weights of variance 2/inputs, biases 0.
  [[nodiscard]] std::vector<T> initial(std::uint64_t seed) const;

  /// Mean cross-entropy of the images `index` and its gradient.
  T gradient(std::span<const T> weights, const Images<T>& images,
             std::span<const std::ptrdiff_t> index, std::span<T> out) const;
  /// out[k d ...]: the gradient of the cross-entropy of image index[k] alone.
  void sample_gradients(std::span<const T> weights, const Images<T>& images,
                        std::span<const std::ptrdiff_t> index, std::span<T> out) const;
  /// The cross-entropy of each image, and the class of the largest output.
  void evaluate(std::span<const T> weights, const Images<T>& images, std::span<double> losses,
                std::span<std::uint8_t> classes) const;
  /// The part of the images whose class is right; `loss`, if not null, gets the mean cross-entropy.
  [[nodiscard]] double accuracy(std::span<const T> weights, const Images<T>& images,
                                double* loss = nullptr) const;

 private:
  struct Block;
  void forward(std::span<const T> weights, const Images<T>& images,
               std::span<const std::ptrdiff_t> index, Block& block) const;
  void backward(std::span<const T> weights, Block& block) const;
  void add_gradient(const Block& block, std::ptrdiff_t first, std::ptrdiff_t count, T* out) const;

  Shape shape_;
  int threads_;
  std::vector<Part> parts_;             // weights, biases, weights, biases, ...
  std::vector<std::ptrdiff_t> widths_;  // inputs of each full layer, then the classes
  std::ptrdiff_t high_ = 0, wide_ = 0;  // of a filter's response
  std::ptrdiff_t pooled_ = 0;           // features of one filter
  std::ptrdiff_t parameters_ = 0;
};

// ---- training -----------------------------------------------------------------------------------

/// One step of an optimiser: changes the weights, given the gradient of a batch; `rate` is the
/// learning rate of the step.
using Step =
    std::function<void(std::span<const float> gradient, std::span<float> weights, double rate)>;

/// v = momentum v + g + decay w, w -= rate v.
[[nodiscard]] Step sgd(double momentum, double decay);
/// @source  Kingma, Ba (2015), algorithm 1, with beta 0.9 and 0.999 and epsilon 1e-8; the decay is
///          decoupled (Loshchilov, Hutter 2019)
[[nodiscard]] Step adam(double decay);

struct Training {
  int epochs = 10;
  std::ptrdiff_t batch = 128;
  double rate = 0.05;                       ///< falls to 0 along half a cosine
  std::uint64_t seed = 0;                   ///< of the order of images
  std::span<const std::uint8_t> mask = {};  ///< weights with 0 stay 0
  /// Called after each epoch with its number, from 1.
  std::function<void(int epoch, std::span<const float> weights, double train_loss)> after_epoch =
      {};
};

/// Epochs of batches in a random order of their own; the last incomplete batch of an epoch is left
/// out.
void train(const Network<float>& network, const Images<float>& images, std::vector<float>& weights,
           const Step& step, const Training& training);

/// 0, 1, ..., n - 1 in random order.
[[nodiscard]] std::vector<std::ptrdiff_t> shuffled(std::ptrdiff_t n, std::uint64_t seed,
                                                   std::uint32_t stream);

}  // namespace example
