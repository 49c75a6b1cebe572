#include <type_traits>

#include "halfulp/error.hpp"
#include "halfulp/pde_output.hpp"

#if defined(HALFULP_HDF5)
#include <dlfcn.h>
#include <hdf5.h>
#endif

namespace halfulp::gp_pde {

#if defined(HALFULP_HDF5)

namespace {

/// What is used of HDF5, loaded when first asked for: it comes with many libraries (for files on
/// other machines), which every start would load.
struct Hdf5 {
  decltype(&H5open) open;
  decltype(&H5Eset_auto2) set_auto;
  decltype(&H5Fcreate) create_file;
  decltype(&H5Fflush) flush_file;
  decltype(&H5Fclose) close_file;
  decltype(&H5Screate_simple) create_space;
  decltype(&H5Sclose) close_space;
  decltype(&H5Pcreate) create_properties;
  decltype(&H5Pset_obj_track_times) track_times;
  decltype(&H5Pclose) close_properties;
  decltype(&H5Dcreate2) create_dataset;
  decltype(&H5Dwrite) write_dataset;
  decltype(&H5Dclose) close_dataset;
  hid_t *dataset_creation, *little_endian_double, *native_double;
  bool complete = false;

  Hdf5() {
    void* const library = dlopen(HALFULP_HDF5, RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) return;
    complete = true;
    const auto find = [&](auto& symbol, const char* name) {
      void* const address = dlsym(library, name);
      if (address == nullptr) complete = false;
      symbol = reinterpret_cast<std::remove_reference_t<decltype(symbol)>>(address);
    };
    find(open, "H5open");
    find(set_auto, "H5Eset_auto2");
    find(create_file, "H5Fcreate");
    find(flush_file, "H5Fflush");
    find(close_file, "H5Fclose");
    find(create_space, "H5Screate_simple");
    find(close_space, "H5Sclose");
    find(create_properties, "H5Pcreate");
    find(track_times, "H5Pset_obj_track_times");
    find(close_properties, "H5Pclose");
    find(create_dataset, "H5Dcreate2");
    find(write_dataset, "H5Dwrite");
    find(close_dataset, "H5Dclose");
    find(dataset_creation, "H5P_CLS_DATASET_CREATE_ID_g");
    find(little_endian_double, "H5T_IEEE_F64LE_g");
    find(native_double, "H5T_NATIVE_DOUBLE_g");
    if (!complete || open() < 0) complete = false;
    if (complete)
      set_auto(H5E_DEFAULT, nullptr, nullptr);  // errors are ours to report, not to print
  }
};

const Hdf5& hdf5() {
  static const Hdf5 library;
  return library;
}

constexpr unsigned truncate = 0x0002u;  // H5F_ACC_TRUNC without the calls in it

/// An HDF5 handle, closed at the end of its scope; a failed call gives a negative one.
class Handle {
 public:
  Handle(hid_t id, herr_t (*close)(hid_t), const std::string& file) : id_(id), close_(close) {
    if (id < 0) throw IoError(file, "HDF5 cannot create what is needed in it");
  }
  ~Handle() { close_(id_); }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  operator hid_t() const { return id_; }  // NOLINT: a handle is its number

 private:
  hid_t id_;
  herr_t (*close_)(hid_t);
};

void write_dataset(hid_t file, const std::string& file_name, const std::string& name,
                   const std::vector<hsize_t>& shape, std::span<const double> values) {
  const Hdf5& h5 = hdf5();
  const Handle space(h5.create_space(static_cast<int>(shape.size()), shape.data(), nullptr),
                     h5.close_space, file_name);
  // Without times, so that equal fields give equal bytes.
  const Handle creation(h5.create_properties(*h5.dataset_creation), h5.close_properties, file_name);
  h5.track_times(creation, false);
  const Handle set(h5.create_dataset(file, name.c_str(), *h5.little_endian_double, space,
                                     H5P_DEFAULT, creation, H5P_DEFAULT),
                   h5.close_dataset, file_name);
  if (h5.write_dataset(set, *h5.native_double, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()) < 0)
    throw IoError(file_name, "dataset " + name + " cannot be written");
}

}  // namespace

bool have_hdf5() { return hdf5().complete; }

void write_hdf5(const std::filesystem::path& path, std::span<const std::string> axis_names,
                std::span<const std::vector<double>> axes, std::span<const Field> fields) {
  if (!have_hdf5())
    throw DomainError("write_hdf5", "format", "h5",
                      "another one: " HALFULP_HDF5 " is not on this machine");
  const Hdf5& h5 = hdf5();
  const std::string name = path.string();
  const Handle file(h5.create_file(name.c_str(), truncate, H5P_DEFAULT, H5P_DEFAULT), h5.close_file,
                    name);
  std::vector<hsize_t> shape;
  for (std::size_t d = 0; d < axes.size(); ++d) {
    shape.push_back(axes[d].size());
    write_dataset(file, name, axis_names[d], {axes[d].size()}, axes[d]);
  }
  for (const Field& field : fields) write_dataset(file, name, field.name, shape, field.values);
  if (h5.flush_file(file, H5F_SCOPE_LOCAL) < 0) throw IoError(name, "cannot be written");
}

#else

bool have_hdf5() { return false; }

void write_hdf5(const std::filesystem::path&, std::span<const std::string>,
                std::span<const std::vector<double>>, std::span<const Field>) {
  throw DomainError("write_hdf5", "format", "h5", "another one: this build has no HDF5");
}

#endif

}  // namespace halfulp::gp_pde
