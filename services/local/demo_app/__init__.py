"""The web application inside the demo's image: a stand-in for any service with its libraries.

Flask with what it needs is used from the start. Requests and Pillow are imported by the first
request that wants them, so that the demo can show a late access. Further libraries of the image
are never used. It is copied into the image (see image_demo.py) and imported by nothing here.
"""
