"""What several tests are made of: networks, sweeps, studies, pages and files, by topic."""
