process REGISTER_APPLY {
    tag "${meta.id}"
    label 'process_low'

    conda "${moduleDir}/environment.yml"
    container "${ workflow.containerEngine in ['singularity', 'apptainer'] && !task.ext.singularity_pull_docker_container ?
        'https://depot.galaxyproject.org/singularity/register-cli:0.2.0--0' :
        'quay.io/biocontainers/register-cli:0.2.0--0' }"

    input:
    tuple val(meta), path(transform), path(image, stageAs: 'image/*')
    val suffix

    output:
    tuple val(meta), path("${prefix}.${suffix}"), emit: image
    tuple val("${task.process}"), val('register'), eval("register --version | sed 's/^register //'"), topic: versions, emit: versions_register

    when:
    task.ext.when == null || task.ext.when

    script:
    def args = task.ext.args ?: ''
    prefix   = task.ext.prefix ?: "${meta.id}"
    """
    register apply \\
        ${args} \\
        --output ${prefix}.${suffix} \\
        ${transform} \\
        ${image}
    """

    stub:
    prefix   = task.ext.prefix ?: "${meta.id}"
    """
    touch ${prefix}.${suffix}
    """
}
