# Installs the library, its headers, the CMake package and the pkg-config file.
include(CMakePackageConfigHelpers)

set(halfulp_package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/halfulp)

install(TARGETS halfulp EXPORT halfulpTargets
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
if(TARGET halfulp_cuda)
  install(TARGETS halfulp_cuda EXPORT halfulpTargets
    ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
    LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
endif()
if(NOT HALFULP_CUDA)
  set(halfulp_no_cuda PATTERN cuda EXCLUDE)
endif()
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/halfulp
  DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
  FILES_MATCHING PATTERN "*.hpp"
  ${halfulp_no_cuda})
install(EXPORT halfulpTargets NAMESPACE halfulp:: DESTINATION ${halfulp_package_dir})

get_target_property(halfulp_type halfulp TYPE)
if(halfulp_type STREQUAL STATIC_LIBRARY)
  set(HALFULP_STATIC ON)
  # An archive carries no list of what it needs, so the pkg-config file does, without --static.
  list(TRANSFORM HALFULP_MODULES REPLACE ".*=" "" OUTPUT_VARIABLE HALFULP_PC_REQUIRES)
  list(JOIN HALFULP_PC_REQUIRES " " HALFULP_PC_REQUIRES)
  set(HALFULP_PC_LIBS "${OpenMP_CXX_FLAGS}")
else()
  set(HALFULP_STATIC OFF)
  set(HALFULP_PC_REQUIRES "")
  set(HALFULP_PC_LIBS "")
endif()

configure_package_config_file(
  ${PROJECT_SOURCE_DIR}/lib/halfulpConfig.cmake.in ${CMAKE_CURRENT_BINARY_DIR}/halfulpConfig.cmake
  INSTALL_DESTINATION ${halfulp_package_dir})
# Before 1.0 a minor version may change the interface.
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/halfulpConfigVersion.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES
  ${CMAKE_CURRENT_BINARY_DIR}/halfulpConfig.cmake
  ${CMAKE_CURRENT_BINARY_DIR}/halfulpConfigVersion.cmake
  DESTINATION ${halfulp_package_dir})

# The prefix follows from where the file lies, so that a staged or moved tree works.
file(RELATIVE_PATH HALFULP_PC_PREFIX
  /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
string(REGEX REPLACE "/$" "" HALFULP_PC_PREFIX "${HALFULP_PC_PREFIX}")
configure_file(${PROJECT_SOURCE_DIR}/lib/halfulp.pc.in ${CMAKE_CURRENT_BINARY_DIR}/halfulp.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/halfulp.pc
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
