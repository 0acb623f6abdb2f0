# What `cmake --install` puts where besides the program: both libraries, the public headers, the built-in model, the CMake
# package and the pkg-config file.
include(CMakePackageConfigHelpers)

install(DIRECTORY include/flashvsr DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}" FILES_MATCHING PATTERN "*.h" PATTERN "*.hpp")
install(DIRECTORY models/ DESTINATION "${CMAKE_INSTALL_DATADIR}/flashvsr/models"
  FILES_MATCHING PATTERN "*.safetensors" PATTERN "README.md")
install(FILES LICENSE NOTICE README.md DESTINATION "${CMAKE_INSTALL_DOCDIR}")

install(TARGETS flashvsr flashvsr_static EXPORT flashvsrTargets
  LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}"
  ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}"
  INCLUDES DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")
set(package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/flashvsr")
install(EXPORT flashvsrTargets NAMESPACE flashvsr:: DESTINATION "${package_dir}")
configure_package_config_file(cmake/flashvsrConfig.cmake.in flashvsrConfig.cmake INSTALL_DESTINATION "${package_dir}")
write_basic_package_version_file(flashvsrConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES cmake/Finddnnl.cmake "${CMAKE_CURRENT_BINARY_DIR}/flashvsrConfig.cmake"
  "${CMAKE_CURRENT_BINARY_DIR}/flashvsrConfigVersion.cmake" DESTINATION "${package_dir}")

# Libraries that a program linked statically needs besides ours.
set(private_libs "-lfmt -lgomp -lstdc++ -lm -lpthread -ldl")
if(FLASHVSR_ONEDNN)
  string(PREPEND private_libs "-ldnnl ")
endif()
configure_file(cmake/flashvsr.pc.in flashvsr.pc @ONLY)
install(FILES "${CMAKE_CURRENT_BINARY_DIR}/flashvsr.pc" DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig")
