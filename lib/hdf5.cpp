#include "halfulp/error.hpp"
#include "halfulp/pde_output.hpp"

#if defined(HALFULP_HDF5)
#include <hdf5.h>
#endif

namespace halfulp::gp_pde {

#if defined(HALFULP_HDF5)

namespace {

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
  const Handle space(H5Screate_simple(static_cast<int>(shape.size()), shape.data(), nullptr),
                     H5Sclose, file_name);
  // Without times, so that equal fields give equal bytes.
  const Handle creation(H5Pcreate(H5P_DATASET_CREATE), H5Pclose, file_name);
  H5Pset_obj_track_times(creation, false);
  const Handle set(
      H5Dcreate2(file, name.c_str(), H5T_IEEE_F64LE, space, H5P_DEFAULT, creation, H5P_DEFAULT),
      H5Dclose, file_name);
  if (H5Dwrite(set, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()) < 0)
    throw IoError(file_name, "dataset " + name + " cannot be written");
}

}  // namespace

bool have_hdf5() { return true; }

void write_hdf5(const std::filesystem::path& path, std::span<const std::string> axis_names,
                std::span<const std::vector<double>> axes, std::span<const Field> fields) {
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);  // errors are ours to report; HDF5 would print them
  const std::string name = path.string();
  const Handle file(H5Fcreate(name.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT), H5Fclose,
                    name);
  std::vector<hsize_t> shape;
  for (std::size_t d = 0; d < axes.size(); ++d) {
    shape.push_back(axes[d].size());
    write_dataset(file, name, axis_names[d], {axes[d].size()}, axes[d]);
  }
  for (const Field& field : fields) write_dataset(file, name, field.name, shape, field.values);
  if (H5Fflush(file, H5F_SCOPE_LOCAL) < 0) throw IoError(name, "cannot be written");
}

#else

bool have_hdf5() { return false; }

void write_hdf5(const std::filesystem::path&, std::span<const std::string>,
                std::span<const std::vector<double>>, std::span<const Field>) {
  throw DomainError("write_hdf5", "format", "h5", "another one: this build has no HDF5");
}

#endif

}  // namespace halfulp::gp_pde
