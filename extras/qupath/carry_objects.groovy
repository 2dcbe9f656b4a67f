/*
 * Carries the annotations and detections of the open image to the slide that it was aligned with.
 *
 * Open the image whose objects are to be carried, in a project that has the other slide too, set the four
 * values below, and run the script. QuPath 0.5 or later; `register points` does the work.
 */
import qupath.lib.io.PathIO

// The program: its full path where QuPath does not find it (a program of the desktop has another PATH).
def program = "register"
// The transform that `register align FIXED MOVING -o aligned` wrote.
def transform = "/path/to/aligned/transform.json"
// The name, in the project, of the slide that gets the objects.
def target = "CD3.ome.tif"
// false: the open image is FIXED, the target MOVING. true: the other way round.
def inverse = false

def entry = getProject()?.getImageList()?.find { it.getImageName() == target }
if (entry == null)
    throw new IllegalArgumentException("The project has no image called " + target)
if (entry == getProjectEntry())
    throw new IllegalArgumentException(target + " is the open image: open the other one")

def objects = getAnnotationObjects() + getDetectionObjects()
if (objects.isEmpty())
    throw new IllegalArgumentException("The open image has no annotations or detections")

def folder = java.nio.file.Files.createTempDirectory("register")
def given = folder.resolve("objects.geojson")
def mapped = folder.resolve("mapped.geojson")
try {
    exportObjectsToGeoJson(objects, given.toString(), "FEATURE_COLLECTION")
    def command = [program, "points", transform, given.toString(), "-o", mapped.toString()]
    if (inverse)
        command.add("--inverse")
    def process = new ProcessBuilder(command).redirectErrorStream(true).start()
    def said = process.inputStream.getText("UTF-8").trim()
    if (process.waitFor() != 0)
        throw new IOException(said)

    def carried = PathIO.readObjects(mapped)
    def imageData = entry.readImageData()
    imageData.getHierarchy().addObjects(carried)
    entry.saveImageData(imageData)
    println said
    println "" + carried.size() + " objects are on " + target + "; their measurements 'inside' and " +
        "'expected error' say how far to trust each"
} finally {
    folder.toFile().deleteDir()
}
