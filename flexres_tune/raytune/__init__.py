"""The only package that imports ray: it places, stops and retries trials that others have planned."""
