"""What several test layers share: fakes by hand, real servers, real clients."""
