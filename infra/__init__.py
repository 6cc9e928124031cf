"""What the services run on: started here, or described for where they are deployed."""
