"""What `docker-compose.yml` needs beside the images: the accounts of a first start, and the gateway's configuration."""
